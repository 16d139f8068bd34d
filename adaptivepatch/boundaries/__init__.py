"""Patch boundaries without a forecaster: where they are, and measures of their quality."""
