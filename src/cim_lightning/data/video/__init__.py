"""Video files and folders of frames as a source of pairs of frames."""
