"""Forecasts are drawn by `predict`, `evaluate` and `plot`, with the values of their tables."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from adaptivepatch.cli import main, outputs

pytest.importorskip("matplotlib")

TINY = [
    *("--horizon", 4, "--context-length", 16, "--max-steps", 2, "--quantiles", "0.1,0.5,0.9"),
    *("--set", "backbone__d_model=8", "--set", "backbone__num_layers=1"),
]


def call(*arguments):
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return end.value.code


def noise(rows=60, seed=0):
    return np.random.default_rng(seed).normal(size=rows)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a wide file, a long file, a file without stamps, and a model of each."""
    folder = tmp_path_factory.mktemp("home")
    days = pd.date_range("2024-01-01", periods=60).strftime("%d.%m.%Y")
    hours = pd.date_range("2024-03-30", periods=60, freq="h", tz="Europe/Berlin")
    files = {
        "wide": pd.DataFrame({"date": hours, "007": noise(), "NA": noise(seed=1)}),
        "long": pd.concat([pd.DataFrame({"shop": s, "day": days, "sold": noise()}) for s in "ab"]),
        "rows": pd.DataFrame({"x": noise()}),
    }
    options = {"long": ["--item-id", "shop", "--timestamp", "day", "--date-format", "%d.%m.%Y"]}
    for name, frame in files.items():
        frame.to_csv(folder / f"{name}.csv", index=False)
        more = options.get(name, [])
        assert call("fit", folder / f"{name}.csv", *TINY, *more, "--model", folder / name) == 0
    return folder


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """The figures that are written, in an empty current folder."""
    figures = []
    write = outputs.write_figure
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        outputs, "write_figure", lambda figure, path: (figures.append(figure), write(figure, path))
    )
    return figures


def line(ax, label):
    (found,) = [one for one in ax.lines if one.get_label() == label]
    return np.asarray(found.get_ydata(), dtype=float)


def titles(figure):
    return [ax.get_title(loc="left") for ax in figure.axes]


def test_predict_draws_the_forecast_behind_its_history(home, drawn, tmp_path, capsys):
    assert call("predict", home / "wide", "--plot", "p.png") == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "adaptivepatch: wrote p.png.\n"
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    assert call("predict", home / "wide", home / "wide.csv", "--plot", "p.svg", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["written"] == ["p.svg"]
    for figure in drawn:
        assert titles(figure) == ["007", "NA"]
        np.testing.assert_array_equal(line(figure.axes[0], "history")[-16:], noise()[-16:])
        forecast = [row["prediction"] for row in document["forecast"][:4]]
        np.testing.assert_allclose(line(figure.axes[0], "forecast")[-4:], forecast)
    assert call("predict", home / "wide", "--plot", "p.png") == 2
    assert "'p.png' exists" in capsys.readouterr().err


def test_evaluate_draws_three_cutoffs(home, drawn, capsys):
    more = ["--start", "2024-03-31T00:00+01:00", "--plot", "w.png", "--out", "w.csv", "--json"]
    assert call("evaluate", home / "wide", home / "wide.csv", *more) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["written"] == ["w.csv", "w.png"]
    (figure,) = drawn
    assert len(figure.axes) == 6
    assert figure.get_supxlabel().startswith("This figure shows 3 of 33 cutoffs (evenly spread)")
    assert f"wrote w.png. {figure.get_supxlabel()}" in err
    assert call("plot", "w.csv", "--history", home / "wide.csv", "--out", "again.png") == 0
    again = drawn[1]
    assert titles(again) == titles(figure)
    for left, right in zip(figure.axes, again.axes, strict=True):
        for label in ("history", "actual", "forecast"):
            np.testing.assert_array_equal(line(left, label), line(right, label))


def test_plot_draws_what_is_chosen_of_a_file(home, drawn, capsys):
    assert call("predict", home / "long", "--out", "f.csv") == 0
    columns = ["--item-id", "shop", "--timestamp", "day", "--date-format", "%d.%m.%Y"]
    history = ["--history", home / "long.csv", *columns]
    texts = ["--title", "Shops", "--ylabel", "pieces", "--history-steps", 5]
    capsys.readouterr()
    assert call("plot", "f.csv", *history, *texts, "--item", "b", "--out", "b.pdf", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"forecast": "f.csv", "written": ["b.pdf"]}
    (figure,) = drawn
    assert titles(figure) == ["b, sold"]
    assert (figure.get_suptitle(), figure.get_supylabel()) == ("Shops", "pieces")
    np.testing.assert_array_equal(line(figure.axes[0], "history"), noise()[-5:])
    assert call("plot", "f.csv", "--max-series", 1, "--out", "one.png") == 0
    assert titles(drawn[1]) == ["a, sold"]
    assert "1 of 2 series" in capsys.readouterr().err


def test_plot_numbers_rows_and_takes_cutoffs(home, drawn, capsys):
    assert call("evaluate", home / "rows", home / "rows.csv", "--out", "w.csv") == 0
    history = ["--history", home / "rows.csv", "--cutoff", 40, "--cutoff", 20]
    assert call("plot", "w.csv", *history, "--out", "w.png") == 0
    assert titles(drawn[0]) == ["x, cutoff 40", "x, cutoff 20"]
    np.testing.assert_array_equal(line(drawn[0].axes[0], "actual"), noise()[40:45])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--item", "c"], r"Got 'c'; the forecast has 'a', 'b'. (Option: --item.)"),
        (["--target", "c"], r"Got 'c'; the forecast has 'sold'. (Option: --target.)"),
        (
            ["--cutoff", "2024"],
            r"column 'cutoff'. Leave out cutoffs. (Option: --cutoff.)",
        ),
        (["--max-series", 0], r"Got 0 instead. (Option: --max-series.)"),
        (["--history-steps", -1], r"Got -1 instead. (Option: --history-steps.)"),
        (["--history", "rows.csv"], r"'rows.csv' must have the column 'sold'"),
        (["--out", "p.gif"], r"must end in .png, .svg or .pdf. Got 'p.gif'"),
        (["--out", "nowhere/p.png"], r"The output folder must exist"),
    ],
)
def test_plot_refuses_what_it_cannot_draw(home, drawn, arguments, message, capsys, tmp_path):
    assert call("predict", home / "long", "--out", "f.csv") == 0
    (tmp_path / "rows.csv").write_bytes((home / "rows.csv").read_bytes())
    capsys.readouterr()
    assert call("plot", "f.csv", "--out", "p.png", *arguments) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert drawn == []


def test_plot_refuses_a_file_that_holds_no_forecasts(home, drawn, capsys):
    assert call("plot", home / "long.csv", "--out", "p.png") == 2
    assert "'long.csv' must have the column 'item_id'" in capsys.readouterr().err
