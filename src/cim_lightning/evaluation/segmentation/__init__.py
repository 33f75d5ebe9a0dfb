"""Semantic segmentation: training crops, sliding-window inference, metrics and overlays."""
