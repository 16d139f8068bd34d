"""Modules that map the points of patches to tokens, and tokens to points and forecasts."""
