"""Pictures of forecasts, of patches and of policies, for data frames, arrays and `Segmentation`.

Every function draws on the axes it is given or on a figure of its own, and leaves matplotlib's
global state (pyplot, backend, styles) alone. Save with ``ax.figure.savefig("picture.png")``.
"""

from adaptivepatch.plotting.comparison import plot_comparison
from adaptivepatch.plotting.figures import new_figure
from adaptivepatch.plotting.policy import patch_changes, plot_lengths, plot_policy
from adaptivepatch.plotting.series import plot_forecast, plot_segmentation

__all__ = [
    "new_figure",
    "patch_changes",
    "plot_comparison",
    "plot_forecast",
    "plot_lengths",
    "plot_policy",
    "plot_segmentation",
]
