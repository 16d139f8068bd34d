"""Data layer: frames, windows, scaling and named data sets in numpy and pandas, without torch."""

from __future__ import annotations

from adaptivepatch.data.datasets import (
    DATASETS,
    DatasetInfo,
    SplitBorders,
    load_dataset,
    load_stamps,
    split_borders,
)
from adaptivepatch.data.frame import read_frame
from adaptivepatch.data.panel import FrameLayout, Panel, future_index
from adaptivepatch.data.scaling import Scaling
from adaptivepatch.data.windows import (
    Windows,
    WindowSplit,
    forecast_windows,
    make_windows,
    num_windows,
    sliding_windows,
)

__all__ = [
    "DATASETS",
    "DatasetInfo",
    "FrameLayout",
    "Panel",
    "Scaling",
    "SplitBorders",
    "WindowSplit",
    "Windows",
    "forecast_windows",
    "future_index",
    "load_dataset",
    "load_stamps",
    "make_windows",
    "num_windows",
    "read_frame",
    "sliding_windows",
    "split_borders",
]
