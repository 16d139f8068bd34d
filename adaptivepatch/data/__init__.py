"""Frames, panels, windows and scaling in numpy and pandas, without torch."""
