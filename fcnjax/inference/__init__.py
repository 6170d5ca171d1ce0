"""Strategies over any PredictFn: whole image, tiles, windows, views."""
