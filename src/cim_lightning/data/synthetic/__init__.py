"""Embedded data set: labeled scenes from a generator, without a file or a network."""
