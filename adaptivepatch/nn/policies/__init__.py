"""Distributions over sets of patch starts, and the policy gradient that trains them."""
