"""A model saved in Python is used on the command line and the reverse, with equal results."""

from __future__ import annotations

import json
from datetime import timedelta, timezone
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from adaptivepatch import FixedPatcher, Forecaster, Trainer, TransformerBackbone
from adaptivepatch.cli import main

ROWS, FITTED = 40, 30
STAMPS = {
    "dates": pd.date_range("2024-01-01", periods=ROWS, freq="h"),
    "days in a zone": pd.date_range("2024-03-10", periods=ROWS, tz="Europe/Berlin"),
    "hours in a zone": pd.date_range("2024-03-30", periods=ROWS, freq="h", tz="Europe/Berlin"),
    "offset": pd.date_range(
        "2024-01-01", periods=ROWS, freq="h", tz=timezone(timedelta(hours=5, minutes=30))
    ),
    "integers": pd.RangeIndex(7, 7 + 3 * ROWS, 3),
    "years": pd.RangeIndex(1980, 1980 + ROWS),
}
TINY = [
    *("--horizon", 4, "--context-length", 12, "--max-steps", 1, "--device", "cpu"),
    *("--backbone", "transformer", "--set", "backbone__d_model=8"),
    *("--set", "backbone__num_layers=1", "--set", "backbone__num_heads=2"),
    *("--set", "patcher__patch_length=4"),
]


def call(*arguments):
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return end.value.code


def small(**parameters):
    return Forecaster(
        4,
        context_length=12,
        patcher=FixedPatcher(4),
        backbone=TransformerBackbone(d_model=8, num_layers=1, num_heads=2),
        trainer=Trainer(max_steps=1, device="cpu"),
        random_state=0,
        **parameters,
    )


def wide(stamps, name=None):
    """A frame with stamps in its index."""
    rng = np.random.default_rng(0)
    values = {"load": rng.normal(size=len(stamps)), "heat": rng.normal(size=len(stamps))}
    return pd.DataFrame(values, index=stamps).rename_axis(name)


def long(stamps, items=("a", "b")):
    """A long frame with two key columns."""
    parts = [wide(stamps, "timestamp").reset_index().assign(item_id=item) for item in items]
    return pd.concat(parts, ignore_index=True)


def fitted_part(frame):
    """The rows of the first stamps."""
    if "item_id" not in frame:
        return frame[:FITTED]
    return frame[frame.groupby("item_id").cumcount() < FITTED]


def as_stamps(column):
    """Stamps of a result as moments or integers."""
    if pd.api.types.is_integer_dtype(column):
        return column.tolist()
    stamps = pd.to_datetime(column, utc=True)
    return stamps.dt.as_unit("ns").tolist()


def assert_equal(found, expected, *stamps):
    """Assert that a table of the command line is that of Python."""
    assert list(found) == list(expected)
    for name in expected:
        if name in stamps:
            assert as_stamps(found[name]) == as_stamps(expected[name])
        elif pd.api.types.is_float_dtype(expected[name]):
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-12)
        else:
            assert found[name].tolist() == expected[name].tolist()


def assert_same_results(folder, file, frame, *options):
    """Assert that the command line and Python agree on a model, a file and the frame in it."""
    model = Forecaster.load(folder)
    start = frame["timestamp"].iloc[FITTED] if "timestamp" in frame else frame.index[FITTED]
    options = [*options, "--force", "--out"]
    assert call("predict", folder, file, *options, "p.csv") == 0
    assert_equal(pd.read_csv("p.csv"), model.predict(frame), "timestamp")
    assert call("evaluate", folder, file, "--start", start, *options, "w.csv") == 0
    windows = model.backtest(frame, start=start).to_frame()
    assert_equal(pd.read_csv("w.csv"), windows, "timestamp", "cutoff")
    assert call("segment", folder, file, *options, "s.csv") == 0
    assert_equal(pd.read_csv("s.csv"), model.segment(frame), "start", "end")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("shape", ["index", "column", "long"])
@pytest.mark.parametrize("kind", STAMPS)
def test_a_model_of_python_is_used_on_the_command_line(kind, shape, capsys):
    frame = long(STAMPS[kind]) if shape == "long" else wide(STAMPS[kind])
    if shape == "column":
        frame = frame.rename_axis("timestamp").reset_index()
    small().fit(fitted_part(frame)).save("m")
    frame.to_csv("x.csv", index=shape == "index")
    assert_same_results("m", "x.csv", frame)
    assert "trained on" not in capsys.readouterr().err


@pytest.mark.parametrize("shape", ["wide", "long"])
@pytest.mark.parametrize("kind", [kind for kind in STAMPS if kind != "days in a zone"])
def test_a_model_of_the_command_line_is_used_in_python(kind, shape):
    frame = long(STAMPS[kind]) if shape == "long" else wide(STAMPS[kind], "timestamp").reset_index()
    fitted_part(frame).to_csv("train.csv", index=False)
    frame.to_csv("x.csv", index=False)
    assert call("fit", "train.csv", *TINY, "--model", "m") == 0
    assert_same_results("m", "x.csv", frame)


# ---------------------------------------------------------------------------------- columns


def test_columns_of_the_file_are_named(capsys):
    frame = long(STAMPS["years"], items=(1, 2))
    model = small().fit(fitted_part(frame))
    model.save("m")
    other = frame.rename(columns={"item_id": "shop", "timestamp": "year"})
    other.assign(timestamp="x", item_id=0).to_csv("x.csv", index=False)  # not what they seem
    names = ["--item-id", "shop", "--timestamp", "year"]
    assert_same_results("m", "x.csv", frame, *names)


def test_rows_are_numbered_only_if_fit_has_numbered_them(capsys):
    frame = wide(pd.RangeIndex(FITTED))
    frame.to_csv("x.csv", index=False)
    small().fit(frame).save("m")
    assert call("predict", "m", "x.csv") == 2
    assert "Name the column with --timestamp" in capsys.readouterr().err
    assert call("fit", "x.csv", *TINY, "--model", "n") == 0
    assert json.loads(Path("n/cli.json").read_text())["rows_are_numbered"]
    capsys.readouterr()
    assert call("predict", "n", "x.csv") == 0
    out, err = capsys.readouterr()
    assert f"series,{FITTED},load," in out
    assert "rows are numbered" in err
    # Python replaces the model; what fit noted about the earlier one holds no longer.
    small().fit(wide(pd.RangeIndex(1990, 1990 + FITTED))).save("n", overwrite=True)
    assert call("predict", "n", "x.csv") == 2
    assert "Name the column with --timestamp" in capsys.readouterr().err


@pytest.mark.parametrize("name", [None, "year"])
def test_an_index_of_integers_is_found_by_its_name(name, capsys):
    frame = wide(STAMPS["years"], name)
    small().fit(fitted_part(frame)).save("m")
    frame.rename_axis("year").to_csv("x.csv")
    if name is None:
        assert call("predict", "m", "x.csv") == 2
        assert "Name the column with --timestamp" in capsys.readouterr().err
    assert_same_results("m", "x.csv", frame, *([] if name else ["--timestamp", "year"]))


@pytest.mark.parametrize("name", [None, "timestamp", "hour"])
def test_a_long_frame_with_stamps_in_its_index(name, capsys):
    frame = long(STAMPS["dates"]).set_index("timestamp").rename_axis(name)
    small().fit(frame).save("m")
    frame.rename_axis("hour").to_csv("x.csv")
    assert call("predict", "m", "x.csv", "--out", "p.csv") == 0
    assert_equal(pd.read_csv("p.csv"), Forecaster.load("m").predict(frame), "timestamp")


def test_dates_have_a_zone_if_those_of_fit_had_one(capsys):
    for kind, other in (("dates", "offset"), ("offset", "dates")):
        small().fit(wide(STAMPS[kind])).save(kind)
        wide(STAMPS[other]).to_csv("x.csv")
        assert call("evaluate", kind, "x.csv") == 2
        assert "Dates must have a time zone or an offset" in capsys.readouterr().err


# --------------------------------------------------------------------------------- item ids


def test_ids_of_a_file_become_those_of_the_model(capsys):
    frame = long(STAMPS["integers"], items=(1, "a", 2.5))
    small().fit(fitted_part(frame)).save("m")
    frame.to_csv("x.csv", index=False)
    assert call("predict", "m", "x.csv", "--json") == 0
    out, err = capsys.readouterr()
    assert list(dict.fromkeys(row["item_id"] for row in json.loads(out)["forecast"])) == [
        1,
        "a",
        2.5,
    ]
    assert "stay text" not in err


def test_unknown_ids_stay_text_and_a_mixture_is_told(capsys):
    small().fit(long(STAMPS["integers"], items=(1, 2))).save("m")
    long(STAMPS["integers"], items=(1, 3)).to_parquet("x.parquet")
    assert call("predict", "m", "x.parquet", "--json") == 0
    out, err = capsys.readouterr()
    assert {row["item_id"] for row in json.loads(out)["forecast"]} == {1, "3"}
    assert "1 of 2 item ids are not those of fit and stay text, such as '3'" in err


def test_ids_of_one_text_are_refused(capsys):
    frame = long(STAMPS["integers"], items=(1, "1"))
    small().fit(frame).save("m")
    frame[:ROWS].to_csv("x.csv", index=False)
    assert call("predict", "m", "x.csv") == 2
    assert "two ids that read '1'" in capsys.readouterr().err


def test_skipped_ids_are_those_of_the_model(capsys):
    frame = pd.concat(
        [long(STAMPS["integers"], items=(1,)), long(STAMPS["integers"][:3], items=(2,))]
    )
    with pytest.warns(UserWarning, match="left out"):
        small().fit(frame, short="skip").save("m")
    frame.to_csv("x.csv", index=False)
    assert call("predict", "m", "x.csv", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["forecast"]
    assert {row["item_id"] for row in rows} == {1, 2}


@pytest.mark.parametrize("command", ["predict", "evaluate", "segment"])
def test_parquet_holds_ids_of_one_type(command, capsys):
    frame = long(STAMPS["integers"], items=(1, "a"))
    small().fit(frame).save("m")
    frame.to_csv("x.csv", index=False)
    arguments = [command, "m", "x.csv", "--out"]
    assert call(*arguments, "x.parquet") == 2
    assert "such as 1 (int) and 'a' (str). Write a .csv file" in capsys.readouterr().err
    assert call(*arguments, "y.csv") == 0


# ------------------------------------------------------------------------------------ dates


def test_start_is_written_like_the_stamps(capsys):
    days = pd.date_range("2024-01-01", periods=ROWS, tz="UTC")
    small().fit(wide(days)[:FITTED]).save("m")
    form = "%d/%m/%Y %H:%M%z"
    wide(days.strftime(form)).to_csv("x.csv", index_label="date")
    evaluate = ["evaluate", "m", "x.csv", "--date-format", form, "--out", "w.csv", "--start"]
    assert call(*evaluate, "05/02/2024 00:00+0000") == 0
    assert pd.read_csv("w.csv")["timestamp"].min() == "2024-02-05 00:00:00+00:00"
    assert call(*evaluate, "2024-02-05", "--force") == 0  # as the commands print it
    assert pd.read_csv("w.csv")["timestamp"].min() == "2024-02-05 00:00:00+00:00"
    for wrong in ("2024/02/05", "05/02/2024", "32/01/2024 00:00+0000", "5"):
        assert call(*evaluate, wrong, "--force") == 2
        assert "of the file, such as '01/01/2024 00:00+0000'. Got '" in capsys.readouterr().err
    wide(days).to_csv("iso.csv")
    for wrong in ("05/02/2024", "2024.1", "5"):
        assert call("evaluate", "m", "iso.csv", "--start", wrong) == 2
        assert "of the file, such as '2024-01-01 00:00:00+00:00'. Got" in capsys.readouterr().err


def test_a_format_with_the_year_first_is_the_only_one(capsys):
    days = pd.date_range("2024-01-01", periods=ROWS)
    small().fit(wide(days)[:FITTED]).save("m")
    wide(days.strftime("%Y-%d-%m")).to_csv("x.csv", index_label="date")
    evaluate = ["evaluate", "m", "x.csv", "--date-format", "%Y-%d-%m", "--start"]
    assert call(*evaluate, "2024-05-02") == 0
    assert "from 2024-02-05 on" in capsys.readouterr().err
    assert call(*evaluate, "2024-01-31") == 2  # not the 31st of January
    assert "such as '2024-01-01'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("start", "found"),
    [
        ("2024-03-31 03:00", "2024-03-31 03:00:00+02:00"),
        ("2024-03-31T01:00Z", "2024-03-31 03:00:00+02:00"),
        ("2024-03-31", "2024-03-31 00:00:00+01:00"),
        ("2024-03-31 02:30", None),
    ],
)
def test_start_is_a_moment_of_the_time_zone_of_the_model(start, found, capsys):
    frame = wide(STAMPS["hours in a zone"])
    small().fit(frame).save("m")
    frame.to_csv("x.csv")
    status = call("evaluate", "m", "x.csv", "--start", start, "--json")
    out, err = capsys.readouterr()
    if found is None:
        assert status == 2
        assert "The clocks of Europe/Berlin skip '2024-03-31 02:30' or show it twice" in err
    else:
        assert json.loads(out)["start"] == found
