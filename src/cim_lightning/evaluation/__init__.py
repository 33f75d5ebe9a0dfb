"""Evaluation of a backbone on downstream tasks."""
