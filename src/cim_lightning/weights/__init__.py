"""Weights from other projects: read a file in any common layout, and match it with a model."""
