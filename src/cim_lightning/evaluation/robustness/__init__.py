"""What a classifier is put through, and how what it loses is reckoned."""
