"""Torch blocks that know `Segmentation` but no patcher and no pandas."""
