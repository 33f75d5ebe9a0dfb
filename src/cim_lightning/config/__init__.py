"""Hydra configuration: composition, validation, error messages, resume and run names."""
