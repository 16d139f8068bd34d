"""Frames, panels, windows and scaling, based on numpy and pandas; torch is not imported."""
