"""Distributions over sets of patch starts, and the gradient that trains them."""
