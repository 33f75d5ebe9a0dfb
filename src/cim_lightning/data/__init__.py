"""Images in: where they come from, how they are decoded, and how a batch is made."""
