"""Layers of networks: attention, feed-forward blocks, normalisation, dropout."""
