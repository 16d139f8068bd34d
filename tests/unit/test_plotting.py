from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell

from adaptivepatch.errors import InvalidParameterError, InvalidSegmentationError
from adaptivepatch.segmentation import Segmentation

pytest.importorskip("matplotlib")
from adaptivepatch.plotting.figures import new_figure
from adaptivepatch.plotting.series import plot_forecast, plot_segmentation

HOURS = np.datetime64("2025-03-01T00", "h") + np.arange(12)


def line(ax, label):
    (found,) = [one for one in ax.lines if one.get_label() == label]
    return np.asarray(found.get_xdata()), np.asarray(found.get_ydata(), dtype=float)


def band_edges(ax):
    return [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in ax.patches]


def test_forecast_draws_every_series_at_its_stamps():
    actual, forecast = np.arange(4.0), np.arange(4.0) + 0.5
    ax = plot_forecast(
        HOURS[8:], actual, {"model": forecast, "naive": 0 * actual},
        past_stamps=HOURS[:8], past=np.arange(8.0), ylabel="people", title="square",
    )  # fmt: skip
    for label, stamps, values in [
        ("observed", HOURS[8:], actual),
        ("model", HOURS[8:], forecast),
        ("naive", HOURS[8:], 0 * actual),
        ("look-back", HOURS[:8], np.arange(8.0)),
    ]:
        drawn_stamps, drawn = line(ax, label)
        np.testing.assert_array_equal(drawn_stamps, stamps)
        np.testing.assert_array_equal(drawn, values)
    assert ax.get_ylabel() == "people"
    assert ax.get_title(loc="left") == "square"
    assert {text.get_text() for text in ax.get_legend().get_texts()} == {
        "observed", "model", "naive", "look-back",
    }  # fmt: skip


def test_forecasts_differ_in_colour_and_dashes():
    ax = plot_forecast(range(3), np.zeros(3), {name: np.zeros(3) for name in "abcde"})
    lines = [one for one in ax.lines if one.get_label() in "abcde"]
    assert len({one.get_color() for one in lines}) == 5
    assert len({str(one._dash_pattern) for one in lines}) == 5


def test_interval_is_a_band_from_lower_to_upper():
    ax = plot_forecast(
        range(3), np.zeros(3), {"model": np.zeros(3)}, interval=(-np.ones(3), 2 * np.ones(3))
    )
    (band,) = ax.collections
    ys = band.get_paths()[0].vertices[:, 1]
    assert (ys.min(), ys.max()) == (-1, 2)


@pytest.mark.parametrize("bad", [np.zeros(3), np.zeros((4, 1))])
def test_forecast_needs_a_value_for_each_stamp(bad):
    with pytest.raises(InvalidParameterError, match="forecast 'model' must be one series"):
        plot_forecast(range(4), np.zeros(4), {"model": bad})


@pytest.mark.parametrize("as_lengths", [True, False])
def test_segmentation_shades_each_patch_and_alternates(as_lengths):
    lengths = [3, 1, 4]
    patches = lengths if as_lengths else Segmentation.from_lengths(torch.tensor([lengths]))
    ax = plot_segmentation(np.arange(8.0), patches)
    assert band_edges(ax) == [(-7, -4), (-4, -3), (-3, 1)]
    first, second, third = (patch.get_facecolor() for patch in ax.patches)
    assert first == third != second
    assert "0: the newest" in ax.get_xlabel()


def test_segmentation_takes_one_row_and_leaves_out_padding():
    patches = Segmentation.from_lengths(torch.tensor([[2, 2, 2], [6, 0, 0]]))
    assert len(plot_segmentation(np.zeros(6), patches, row=0).patches) == 3
    assert len(plot_segmentation(np.zeros(6), patches, row=1).patches) == 1


def test_segmentation_with_stamps_and_probabilities_below_the_series():
    probability = np.linspace(0, 1, 12)
    ax = plot_segmentation(
        np.arange(12.0), [6, 6], stamps=HOURS, boundary_prob=probability, ylabel="people"
    )
    assert len(ax.patches) == 2
    assert ax.patches[1].get_width() == pytest.approx(6 / 24)  # days, as matplotlib counts
    (twin,) = [one for one in ax.figure.axes if one is not ax]
    (bars,) = twin.collections
    np.testing.assert_allclose([path.vertices[1, 1] for path in bars.get_paths()], probability)
    highest_bar = 1 / (twin.get_ylim()[1] - twin.get_ylim()[0])
    low, high = ax.get_ylim()
    assert (0 - low) / (high - low) >= highest_bar  # the smallest value, 0, is above the bars
    assert min(ax.get_yticks()) >= -1  # and nothing is said of values beside the bars


@pytest.mark.parametrize("lengths", [[3, 3], [9], [-1, 9], []])
def test_patches_must_cover_the_series(lengths):
    with pytest.raises(InvalidSegmentationError, match="must cover the 8 steps"):
        plot_segmentation(np.zeros(8), lengths)


def test_a_single_step_can_be_drawn():
    assert band_edges(plot_segmentation([1.0], [1])) == [(0, 1)]
    plot_segmentation([1.0], [1], stamps=HOURS[:1])


def test_given_axes_are_used_and_figures_can_be_saved(tmp_path):
    figure, axes = new_figure(2, 1)
    assert plot_segmentation(np.zeros(4), [2, 2], ax=axes[0, 0]) is axes[0, 0]
    assert plot_forecast(HOURS[:3], np.zeros(3), {}, ax=axes[1, 0]) is axes[1, 0]
    figure.savefig(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_notebooks_show_a_figure_without_pyplot():
    figure = pickle.loads(pickle.dumps(new_figure()[0]))
    shown, _ = InteractiveShell().display_formatter.format(figure)
    assert shown["image/png"].startswith(b"\x89PNG")


def test_pyplot_is_not_imported():
    code = (
        "import sys\n"
        "import pandas as pd\n"
        "from adaptivepatch import plot\n"
        "from adaptivepatch.plotting import plot_forecast\n"
        "assert 'matplotlib' not in sys.modules\n"
        "plot_forecast(range(3), [0, 1, 2], {'model': [0, 1, 2]})\n"
        "keys = {'item_id': 'a', 'timestamp': range(3), 'target_name': 'x'}\n"
        "plot(pd.DataFrame(keys | {'prediction': 1.0})).draw_without_rendering()\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
