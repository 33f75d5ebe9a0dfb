"""Accuracy of a classifier under attacks, corruptions, occlusion and distribution shift."""
