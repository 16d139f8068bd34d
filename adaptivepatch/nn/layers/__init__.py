"""Network layers: attention, feed-forward blocks, convolutions, normalisation, dropout."""
