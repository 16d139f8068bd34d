"""Torch modules that know `Segmentation`, but no patcher and no pandas."""
