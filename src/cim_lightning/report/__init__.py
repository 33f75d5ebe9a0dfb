"""Finished, running and failed runs, read from their folders: tables, curves and one HTML page."""
