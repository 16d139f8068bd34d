"""Plots of a learned policy: its course during training, and the lengths of its patches.

The plots show how a policy places patches. Only the error on test rows shows whether it improves
forecasts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adaptivepatch.errors import InvalidFrameError, InvalidParameterError
from adaptivepatch.plotting.figures import (
    LINE_STYLES,
    PAST,
    TRUTH,
    axes_or_new,
    finish,
    moments,
    new_figure,
)

if TYPE_CHECKING:
    from adaptivepatch.plotting.figures import Axes, Figure

_LENGTHS = "lengths_to_"
_LENGTH_COLOURS = ("#08306B", "#2171B5", "#6BAED6", "#DDDDDD", "#FDD0A2", "#FD8D3C", "#A63603")


def plot_policy(
    history: Sequence[dict[str, float]] | pd.DataFrame, *, title: str | None = None
) -> Figure:
    """Draw how a policy and its patches changed during training.

    Parameters
    ----------
    history : list of dict or pandas.DataFrame
        Attribute ``record_.history`` of a fit with a `ReinPatcher`, with at least two validations.
    title : str, optional
        Title.

    Returns
    -------
    matplotlib.figure.Figure
        Six axes over the training step: training and validation loss, with the step that was kept;
        share of the reference's patch starts that the mode keeps; lengths of the mode's patches, in
        units of the mean length; entropy of the policy in nats; spread of the rewards among the
        samples of a row; points per patch of the samples. If no patch moved, or all lengths are
        about the mean, a sentence says so; the share of rows whose samples are all the same is then
        drawn instead of the lengths. There are no values while the policy is
        not trained (by default at the beginning and at the end).

    Raises
    ------
    InvalidParameterError
        If the history has no trained policy or fewer than two validations.
    """
    table = pd.DataFrame(history)
    learned = "policy_entropy" in table and bool(table["policy_entropy"].notna().any())
    if len(table) < 2 or not learned:
        raise InvalidParameterError(
            "history must be that of a trained policy, with at least two validations. Got "
            f"{len(table)} validation(s) with the columns {list(table.columns)}. Pass "
            "record_.history of a Forecaster with a ReinPatcher, trained longer or validated more "
            "often.",
            parameter="history",
        )
    figure, axes = new_figure(2, 3, width=11.0, height=2.6, share_x=True)
    step = table["step"].to_numpy()
    _draw_losses(axes[0, 0], table)
    _draw_course(axes[0, 1], table, "mode_agreement", "reference starts that the mode keeps")
    _as_percent(axes[0, 1])
    still = _what_stood_still(table)
    if "lengths" in still:
        _draw_course(axes[0, 2], table, "policy_identical", "rows whose samples are all the same")
        _as_percent(axes[0, 2])
    else:
        _draw_shares(axes[0, 2], table)
    _draw_course(axes[1, 0], table, "policy_entropy", "entropy of the policy, nats")
    spread = "spread of a row's rewards (deviation of the loss)"
    _draw_course(axes[1, 1], table, "policy_reward_spread", spread)
    _draw_course(axes[1, 2], table, "compression_rate", "points per patch, of samples")
    for ax, name in zip(axes[1, :2], ("policy_entropy", "policy_reward_spread"), strict=True):
        ax.set_ylim(0, 1.08 * max(float(table[name].max()), 1e-12))
    every: list[Axes] = list(axes.ravel())
    for ax in every:
        ax.set_xlim(0, step.max())
        ax.tick_params(labelsize="small")
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
    for ax in axes[1]:
        ax.set_xlabel("training step", fontsize="small")
    if title is not None:
        figure.suptitle(title, fontsize="medium", x=0.01, ha="left")
    if still:
        figure.supxlabel(" ".join(still.values()), fontsize="medium", x=0.01, ha="left")
    return figure


def _what_stood_still(table: pd.DataFrame) -> dict[str, str]:
    """Return sentences on starts that never moved, and on lengths that are all about the mean."""
    still: dict[str, str] = {}
    if table["mode_agreement"].isna().all():
        return still
    if (table["mode_agreement"].dropna() == 1).all():
        still["starts"] = "The policy kept every start of its reference: no patch moved."
    if (table[f"{_LENGTHS}1.25"].dropna() == 1).all():
        still["lengths"] = "All patches have 0.75 to 1.25 times the mean length."
    return still


def _draw_losses(ax: Axes, table: pd.DataFrame) -> None:
    ax.set_title("forecast loss", loc="left", fontsize="small")
    for name, (colour, dashes) in zip(("train", "validation"), LINE_STYLES, strict=False):
        if f"{name}_loss" in table:
            known = table[["step", f"{name}_loss"]].dropna().to_numpy()
            ax.plot(*known.T, color=colour, linestyle=dashes, linewidth=1.5, label=name)
    if "validation_loss" in table and table["validation_loss"].notna().any():
        losses = table["validation_loss"].to_numpy(dtype=np.float64)
        best = int(np.nanargmin(losses))
        at = table["step"].to_numpy()[best]
        ax.plot(at, losses[best], "o", color=TRUTH, markersize=4, label="kept")
    ax.legend(frameon=False, fontsize="small")


def _draw_course(ax: Axes, table: pd.DataFrame, name: str, title: str) -> None:
    ax.set_title(title, loc="left", fontsize="small")
    known = table[["step", name]].dropna().to_numpy()
    ax.plot(*known.T, color=LINE_STYLES[0][0], marker=".", linewidth=1.5)
    if len(known) and np.ptp(known[:, 1]) < 1e-3 * abs(
        known[0, 1]
    ):  # do not magnify rounding errors
        ax.set_ylim(*sorted(known[0, 1] * np.array([0.5, 1.5])))


def _as_percent(ax: Axes) -> None:
    ax.set_ylim(0, 1.02)
    ax.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")


def _draw_shares(ax: Axes, table: pd.DataFrame) -> None:
    """Draw the shares of the lengths as stacked areas, the shortest at the bottom."""
    ax.set_title("lengths of the mode's patches", loc="left", fontsize="small")
    names = [name for name in table.columns if str(name).startswith(_LENGTHS)]
    known = table[["step", *names]].dropna()
    colours = _LENGTH_COLOURS[: len(names)]
    labels, low = [], "0"
    for name in names:
        high = str(name).removeprefix(_LENGTHS)
        labels.append(f"over {low}" if high == "inf" else f"to {high}")
        low = high
    bands = ax.stackplot(
        known["step"].to_numpy(), *known[names].to_numpy().T, colors=colours, linewidth=0
    )
    ax.set_ylim(0, 1)
    ax.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
    ax.legend(
        bands[::-1],
        labels[::-1],
        frameon=False,
        fontsize="x-small",
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        title="mean lengths",
        title_fontsize="x-small",
    )


# -------------------------------------------------------------------------- length and behaviour


def patch_changes(patches: pd.DataFrame, series: pd.DataFrame) -> pd.DataFrame:
    """Measure how much each series changes inside its patches.

    Parameters
    ----------
    patches : pandas.DataFrame
        Table of `Forecaster.segment` or `adaptivepatch.segment` for one item; tables of several
        look-backs may be concatenated.
    series : pandas.DataFrame
        Series as a wide frame: one column per channel, stamps in the index.

    Returns
    -------
    pandas.DataFrame
        Patches with at least two neighbouring observed steps, and the column ``change``: the mean
        absolute change from one step to the next inside the patch, divided by the mean over all
        given patches of the channel.

    Raises
    ------
    InvalidFrameError
        If the series lack a channel or stamps of the patches.
    """
    found = []
    for name, part in patches.groupby("target_name", sort=False):
        if name not in series.columns:
            raise InvalidFrameError(
                f"The series must have the channels of the patches. They lack {name!r} and have "
                f"{list(series.columns)}. Pass the wide frame that was segmented.",
                parameter="series",
            )
        values = series[name].to_numpy(dtype=np.float64)
        ends = pd.Index(part["start"]), pd.Index(part["end"])
        first, last = (series.index.get_indexer(stamps) for stamps in ends)
        absent = ends[0][first < 0].append(ends[1][last < 0])
        if len(absent):
            raise InvalidFrameError(
                f"The series must have the stamps of the patches. Channel {name!r} lacks some, "
                f"such as {str(absent[0])!r}. Pass the wide frame that was segmented.",
                parameter="series",
            )
        moves = np.abs(np.diff(values))
        inside = [moves[a:b] for a, b in zip(first, last, strict=True)]
        change = np.array([_mean_of_known(one) for one in inside])
        usual = _mean_of_known(np.concatenate(inside))
        found.append(part.assign(change=change / usual if usual > 0 else change))
    every = pd.concat(found)
    return every[every["change"].notna()].reset_index(drop=True)


def _mean_of_known(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else np.nan


def plot_lengths(
    patches: pd.DataFrame,
    series: pd.DataFrame,
    *,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw how much the series changes inside its patches against the lengths of the patches.

    Parameters
    ----------
    patches, series : pandas.DataFrame
        Patches and series as in `patch_changes`.
    title : str, optional
        Title, followed by the rank correlation.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on; default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        One dot per patch, and medians of groups of about equally many patches. The title has
        Spearman's rank correlation of length and change, which is negative if patches are short
        where the series changes much. If all patches have one length, the title says so, and the
        change is drawn against the start of the patch.

    Raises
    ------
    InvalidFrameError
        If the series lack a channel or stamps of the patches.
    """
    table = patch_changes(patches, series)
    length, change = table["length"].to_numpy(dtype=np.float64), table["change"].to_numpy()
    ax = axes_or_new(ax)
    is_even = len(length) > 0 and np.ptp(length) == 0
    start = pd.Index(table["start"])
    across = moments(start) if is_even else length
    style: dict[str, Any] = {"color": LINE_STYLES[0][0], "markersize": 3.5, "alpha": 0.35}
    ax.plot(across, change, "o", markeredgewidth=0, **style)
    if not is_even:
        style = {"color": LINE_STYLES[1][0], "marker": "o", "linewidth": 1.5}
        ax.plot(*_medians(length, change), label="median", **style)
        ax.set_xlim(left=0)
        ax.legend(frameon=False, fontsize="small")
    ax.axhline(1, color=PAST, linewidth=0.8, linestyle=(0, (2, 2)))
    ax.set_ylim(0, max(2.0, 1.05 * float(np.quantile(change, 0.995))) if len(change) else 2.0)
    found = _finding(length, change)
    finish(
        ax,
        across,
        "mean absolute change inside,\nrelative to the channel's",
        found if title is None else f"{title}: {found}",
        zone=getattr(start, "tz", None),
    )
    ax.set_xlabel("start of the patch" if is_even else "patch length, time steps")
    return ax


def _medians(
    length: NDArray[np.float64], change: NDArray[np.float64], bins: int = 6
) -> tuple[list[float], list[float]]:
    """Return medians of length and change in length groups of about equally many patches."""
    if not len(length):
        return [], []
    edges = np.unique(np.quantile(length, np.linspace(0, 1, bins + 1)))
    group = np.searchsorted(edges[1:-1], length, side="left")
    parts = [group == number for number in np.unique(group)]
    return (
        [float(np.median(length[part])) for part in parts],
        [float(np.median(change[part])) for part in parts],
    )


def _finding(length: NDArray[np.float64], change: NDArray[np.float64]) -> str:
    """Return Spearman's rank correlation, or why there is none."""
    if not len(length):
        return "no patch has two neighbouring observed steps"
    if np.ptp(length) == 0:
        return f"all {len(length)} patches have {length[0]:.0f} time steps, drawn by their start"
    if len(length) < 3:
        return "two patches, too few for a rank correlation"
    if np.ptp(change) == 0:
        return "the change is the same in all patches"
    ranks = np.stack([pd.Series(values).rank().to_numpy() for values in (length, change)])
    return f"rank correlation {float(np.asarray(np.corrcoef(ranks))[0, 1]):+.2f}"
