"""Plots of forecasts, patches and policies, from data frames, arrays and `Segmentation`.

Every function draws on the given axes or on a new figure, and does not change matplotlib's global
state (pyplot, backend, styles). Save a plot with ``ax.figure.savefig("plot.png")``.
"""

from adaptivepatch.plotting.comparison import plot_comparison
from adaptivepatch.plotting.figures import new_figure
from adaptivepatch.plotting.forecasts import plot
from adaptivepatch.plotting.policy import patch_changes, plot_lengths, plot_policy
from adaptivepatch.plotting.series import plot_forecast, plot_segmentation

__all__ = [
    "new_figure",
    "patch_changes",
    "plot",
    "plot_comparison",
    "plot_forecast",
    "plot_lengths",
    "plot_policy",
    "plot_segmentation",
]
