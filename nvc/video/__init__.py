"""Frames in and out: reading, writing and colour. Only this package imports av."""
