"""Lightning callbacks and loggers: what watches a run and what it leaves behind."""
