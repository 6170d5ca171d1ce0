"""Strategies over any PredictFn: the whole image, overlap-tile, windows."""
