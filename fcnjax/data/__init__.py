"""Data: sources of (image, label) examples, checks of masks, pipelines."""
