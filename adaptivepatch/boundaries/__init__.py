"""Patch boundaries without a forecaster: their positions, and measures of their quality."""
