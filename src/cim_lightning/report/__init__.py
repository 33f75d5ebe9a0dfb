"""Runs and sweeps, read back from what they left behind."""
