"""Training on labels: a classifier or a segmentation head, and the backbone under it."""
