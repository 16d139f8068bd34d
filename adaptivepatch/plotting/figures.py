"""Parts that all plots share: figures without pyplot, colours, checks, labels of axes."""

from __future__ import annotations

import io
from datetime import tzinfo
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from adaptivepatch.errors import InvalidParameterError, require

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Axes
    from matplotlib.figure import Figure as Figure

# Colours of Okabe and Ito, which colour-blind readers can distinguish; dashes help as well.
LINE_STYLES: tuple[tuple[str, Any], ...] = (
    ("#0072B2", "-"),
    ("#D55E00", (0, (4, 1))),
    ("#009E73", (0, (1, 1))),
    ("#CC79A7", (0, (4, 1, 1, 1))),
    ("#E69F00", (0, (6, 2))),
)
TRUTH, PAST = "#000000", "#777777"


def new_figure(
    num_rows: int = 1,
    num_columns: int = 1,
    *,
    width: float = 8.0,
    height: float = 3.0,
    share_x: bool | Literal["row", "col"] = False,
    share_y: bool | Literal["row", "col"] = False,
) -> tuple[Figure, NDArray[np.object_]]:
    """Return a figure and its axes, made without pyplot.

    Parameters
    ----------
    num_rows, num_columns : int, default=1
        Size of the grid of axes.
    width, height : float
        Width of the figure and height of one row, in inches.
    share_x, share_y : bool, "row" or "col", default=False
        Give all axes, or those of a row or column, the same horizontal or vertical range. It is
        labelled in the last row or the first column.

    Returns
    -------
    figure : matplotlib.figure.Figure
        Empty figure, which notebooks show.
    axes : ndarray of shape (num_rows, num_columns)
        Axes of the figure.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    library = require("matplotlib.figure", extra="plot", purpose="Plotting")
    figure = library.Figure(figsize=(width, height * num_rows), layout="constrained")
    figure._repr_png_ = partial(_as_png, figure)  # notebooks show figures of pyplot only
    axes = figure.subplots(num_rows, num_columns, squeeze=False, sharex=share_x, sharey=share_y)
    return figure, axes


def _as_png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def axes_or_new(ax: Axes | None) -> Axes:
    """Return the given axes, or those of a new figure."""
    return new_figure()[1][0, 0] if ax is None else ax


def check_lengths(stamps: NDArray[Any], **arrays: ArrayLike) -> None:
    """Refuse arrays that do not have one value per stamp."""
    for name, values in arrays.items():
        if np.shape(values) != stamps.shape or stamps.ndim != 1 or not len(stamps):
            raise InvalidParameterError(
                f"{name} must be one series with a value for each stamp. Its shape is "
                f"{np.shape(values)!r}, and that of the stamps is {stamps.shape!r}. "
                "Pass one window and one channel."
            )


def moments(stamps: pd.Index[Any]) -> NDArray[Any]:
    """Return stamps for a horizontal axis: integers, or datetimes in UTC if they have a zone."""
    if isinstance(stamps, pd.DatetimeIndex) and stamps.tz is not None:
        return stamps.tz_convert("UTC").tz_localize(None).to_numpy()
    return stamps.to_numpy()


def finish(
    ax: Axes,
    when: NDArray[Any],
    ylabel: str,
    title: str | None,
    *,
    max_ticks: int = 10,
    zone: tzinfo | None = None,
) -> None:
    """Set labels, title and ticks of axes whose horizontal axis has dates or numbers.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Axes with everything drawn.
    when : ndarray
        Stamps on the horizontal axis.
    ylabel : str
        Name and unit of the values.
    title : str or None
        Title.
    max_ticks : int, default=10
        Largest number of labels on a horizontal axis of dates or integers.
    zone : tzinfo, optional
        Time zone in which dates are written; `when` is in UTC then.
    """
    ax.set_ylabel(ylabel)
    if title is not None:
        ax.set_title(title, loc="left", fontsize="medium")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.tick_params(labelsize="small")
    if np.issubdtype(when.dtype, np.datetime64):
        dates = require("matplotlib.dates", extra="plot", purpose="Plotting")
        locator = dates.AutoDateLocator(tz=zone, minticks=max_ticks // 2, maxticks=max_ticks)
        ax.xaxis.set_major_locator(locator)
        ax.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator, tz=zone))
    elif np.issubdtype(when.dtype, np.integer):
        ax.locator_params(axis="x", nbins=max_ticks, integer=True)
        ax.ticklabel_format(axis="x", style="plain", useOffset=False)
