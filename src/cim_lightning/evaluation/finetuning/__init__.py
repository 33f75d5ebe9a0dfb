"""Training on labels, of a head and the backbone under it: optimized in layers, kept, and gone on with."""
