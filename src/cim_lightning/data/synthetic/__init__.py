"""The embedded data set: labeled scenes from a generator."""
