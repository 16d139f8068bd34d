"""Pictures of a policy show what the history and the tables hold."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from adaptivepatch import (
    Forecaster,
    GroupPolicyGradient,
    ReinPatcher,
    Trainer,
    TransformerBackbone,
    segment,
)
from adaptivepatch.errors import InvalidFrameError, InvalidParameterError
from tests.builders import daily_frame

pytest.importorskip("matplotlib")
from adaptivepatch.plotting.figures import new_figure
from adaptivepatch.plotting.policy import patch_changes, plot_lengths, plot_policy

SHARES = ("0.25", "0.5", "0.75", "1.25", "1.5", "2", "inf")


@pytest.fixture(scope="module")
def history():
    model = Forecaster(
        horizon=6,
        context_length=24,
        patcher=ReinPatcher(4, prior=1.0, gradient=GroupPolicyGradient(2)),
        backbone=TransformerBackbone(d_model=8, num_layers=1, num_heads=1, d_ff=8),
        trainer=Trainer(max_steps=40, validate_every=5, batch_size=8),
        random_state=0,
    )
    return model.fit(daily_frame(), refit=False).record_.history


def line(ax, number=0):
    return np.asarray(ax.lines[number].get_xydata(), dtype=float)


def with_mode(history, lengths, agreement=1.0):
    """The history of a policy whose mode has patches of these lengths and keeps these starts."""
    table = pd.DataFrame(history)
    measured = table["mode_agreement"].notna()
    table.loc[measured, "mode_agreement"] = agreement
    for edge in SHARES:
        table.loc[measured, f"lengths_to_{edge}"] = lengths.get(edge, 0.0)
    return table


def test_policy_picture_draws_the_history(history):
    table = with_mode(history, {"0.75": 0.25, "1.25": 0.5, "1.5": 0.25}, agreement=0.5)
    assert table["policy_entropy"].isna().any()  # the policy rests at the end
    figure = plot_policy(table.to_dict("records"), title="heading")
    loss, agreement, lengths, entropy, spread, rate = figure.axes
    for drawn, names in [
        (loss, ["train_loss", "validation_loss"]),
        (agreement, ["mode_agreement"]),
        (entropy, ["policy_entropy"]),
        (spread, ["policy_reward_spread"]),
        (rate, ["compression_rate"]),
    ]:
        for number, name in enumerate(names):
            known = table[["step", name]].dropna().to_numpy()
            np.testing.assert_array_equal(line(drawn, number), known)
    best = table.loc[table["validation_loss"].idxmin()]
    assert line(loss, 2).tolist() == [[best["step"], best["validation_loss"]]]
    assert len(lengths.collections) == len(SHARES)
    top = lengths.collections[-1].get_paths()[0].vertices[:, 1]
    assert top.max() == pytest.approx(1)  # the shares of all lengths are a whole
    labels = [text.get_text() for text in lengths.get_legend().get_texts()]
    assert labels == ["over 2", "to 2", "to 1.5", "to 1.25", "to 0.75", "to 0.5", "to 0.25"]
    assert (figure.get_suptitle(), figure.get_supxlabel()) == ("heading", "")
    assert all(ax.get_title(loc="left") for ax in figure.axes)


def test_a_policy_that_moved_nothing_is_described_in_a_sentence(history):
    table = with_mode(history, {"1.25": 1.0})
    figure = plot_policy(table)
    assert figure.get_supxlabel() == (
        "The policy kept every start of its reference: no patch moved. All patches have 0.75 to "
        "1.25 times the mean length."
    )
    instead = figure.axes[2]
    assert instead.get_title(loc="left") == "rows whose samples are all the same"
    assert len(instead.collections) == 0
    known = table[["step", "policy_identical"]].dropna().to_numpy()
    np.testing.assert_array_equal(line(instead), known)


def test_lengths_of_a_reference_that_is_not_even_stay_in_the_picture(history):
    uneven = {"0.75": 0.5, "1.5": 0.5}
    figure = plot_policy(with_mode(history, uneven))
    assert figure.get_supxlabel() == (
        "The policy kept every start of its reference: no patch moved."
    )
    assert len(figure.axes[2].collections) == len(SHARES)
    assert plot_policy(with_mode(history, uneven, agreement=0.5)).get_supxlabel() == ""
    unmeasured = with_mode(history, uneven).assign(mode_agreement=np.nan)
    assert plot_policy(unmeasured).get_supxlabel() == ""


@pytest.mark.parametrize(
    "bad", [[], [{"step": 1, "train_loss": 1.0}] * 2, [{"step": 1, "policy_entropy": np.nan}] * 3]
)
def test_history_without_a_policy_is_refused(bad):
    with pytest.raises(InvalidParameterError, match=r"of a trained policy.*Pass record_\.history"):
        plot_policy(bad)


# ------------------------------------------------------------------------- length and behaviour


def steps_and_rests():
    """A series that moves by 2 in its first half and rests in the second, and its patches."""
    index = pd.date_range("2024", periods=24, freq="h")
    values = np.concatenate([np.tile([0.0, 2.0], 6), np.zeros(12)])
    lengths = np.array([3, 3, 3, 3, 12])
    starts = np.cumsum([0, *lengths[:-1]])
    patches = pd.DataFrame(
        {
            "target_name": "x",
            "start": index[starts],
            "end": index[starts + lengths - 1],
            "length": lengths,
        }
    )
    return patches, pd.DataFrame({"x": values}, index=index)


def test_changes_are_those_inside_patches():
    patches, series = steps_and_rests()
    change = patch_changes(patches, series)["change"]
    usual = 4 * 2 * 2.0 / (4 * 2 + 11)  # two moves of 2 in each of four patches, 11 of 0
    assert change.tolist() == pytest.approx([2 / usual] * 4 + [0])


def test_gaps_and_single_steps_have_no_change():
    patches, series = steps_and_rests()
    series.iloc[[1, 4], 0] = np.nan  # nothing has a neighbour in the first two patches
    patches.loc[2, "end"] = patches.loc[2, "start"]
    kept = patch_changes(patches, series)
    assert kept["start"].tolist() == patches["start"].iloc[3:].tolist()


def test_lengths_are_drawn_against_changes_with_their_correlation():
    patches, series = steps_and_rests()
    ax = plot_lengths(patches, series, title="x")
    expected = patch_changes(patches, series)[["length", "change"]].to_numpy()
    np.testing.assert_array_equal(line(ax), expected)
    assert ax.get_title(loc="left") == "x: rank correlation -1.00"
    assert "time steps" in ax.get_xlabel()


def test_patches_of_one_length_are_drawn_by_their_start():
    patches, series = steps_and_rests()
    ax = plot_lengths(patches.iloc[:4], series, title="x")
    assert ax.get_title(loc="left") == "x: all 4 patches have 3 time steps, drawn by their start"
    assert ax.get_xlabel() == "start of the patch"
    stamps, change = ax.lines[0].get_data()
    np.testing.assert_array_equal(stamps, patches["start"].iloc[:4].to_numpy())
    np.testing.assert_array_equal(change, patch_changes(patches.iloc[:4], series)["change"])


def test_patches_without_a_correlation_say_why():
    patches, series = steps_and_rests()
    flat = plot_lengths(patches, series.assign(x=np.arange(24.0)))
    assert flat.get_title(loc="left") == "the change is the same in all patches"
    two = plot_lengths(patches.iloc[3:], series)
    assert two.get_title(loc="left") == "two patches, too few for a rank correlation"
    none = plot_lengths(patches, series.assign(x=np.nan))
    assert none.get_title(loc="left") == "no patch has two neighbouring observed steps"


def test_tables_of_segment_are_drawn_on_given_axes():
    frame = daily_frame()
    table = segment(ReinPatcher(6), frame, 48)
    figure, axes = new_figure()
    assert plot_lengths(table, frame, ax=axes[0, 0]).figure is figure
    assert len(line(axes[0, 0])) == len(table) == 2 * 8


def test_series_without_the_patches_are_refused():
    patches, series = steps_and_rests()
    with pytest.raises(InvalidFrameError, match=r"They lack 'x' and have \['y'\]"):
        patch_changes(patches, series.rename(columns={"x": "y"}))
    with pytest.raises(InvalidFrameError, match=r"lacks some, such as '2024-01-01 23:00:00'"):
        patch_changes(patches, series.iloc[:14])
