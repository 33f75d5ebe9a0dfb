"""Image sources, decoding, views, and the data module."""
