"""Layouts of checkpoints: how other projects name the tensors of a backbone."""
