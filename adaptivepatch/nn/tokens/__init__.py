"""From the points of patches to tokens, and from tokens back to points and forecasts."""
