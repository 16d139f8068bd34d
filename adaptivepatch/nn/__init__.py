"""Torch modules that may use `Segmentation`, but neither patchers nor pandas."""
