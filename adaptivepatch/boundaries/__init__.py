"""Patch boundaries apart from forecasts: where they are, and what they are worth."""
