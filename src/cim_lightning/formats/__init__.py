"""Export of the backbone alone, in formats that other libraries load."""
