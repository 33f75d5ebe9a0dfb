"""Commands: what each of them runs, once its configuration is composed."""
