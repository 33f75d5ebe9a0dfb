"""Correlational Image Modeling (Li, Xie, Loy, CVPR 2023) as a PyTorch Lightning + Hydra experiment suite."""
