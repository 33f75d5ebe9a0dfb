"""Training on labels, of a head and the backbone under it: optimised in layers, kept, and gone on with."""
