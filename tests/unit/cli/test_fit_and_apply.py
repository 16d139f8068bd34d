"""A file is turned into a model folder, and a model into forecasts, metrics and patches."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from adaptivepatch import Forecaster
from adaptivepatch.cli import main
from adaptivepatch.cli.fit import CHECKPOINT

TINY = [
    *("--horizon", 4, "--context-length", 16, "--max-steps", 2, "--device", "cpu"),
    *("--set", "backbone__d_model=8", "--set", "backbone__num_layers=1"),
]
HOURS = pd.date_range("2024-01-01", periods=80, freq="h", name="date")


def call(*arguments):
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return end.value.code


def wide():
    rng = np.random.default_rng(0)
    return pd.DataFrame({"load": rng.normal(size=80), "price": rng.normal(size=80)}, index=HOURS)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with load.csv and a model `out` that is fitted on its first 70 rows."""
    folder = tmp_path_factory.mktemp("home")
    wide().to_csv(folder / "load.csv")
    wide()[:70].to_csv(folder / "train.csv")
    assert call("fit", folder / "train.csv", *TINY, "--model", folder / "out") == 0
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# --------------------------------------------------------------------------------------- fit


def test_fit_writes_the_same_model_as_python(home):
    files = {path.name for path in (home / "out").iterdir()}
    assert files == {"config.json", "model.safetensors", "cli.json"}
    model = Forecaster.load(home / "out")
    again = Forecaster(**model.get_params(deep=False)).fit(
        wide()[:70].reset_index(), timestamp="date"
    )
    pd.testing.assert_frame_equal(model.predict(), again.predict())


def test_fit_takes_a_pretrained_patcher(home):
    from adaptivepatch import load_patcher

    rate = ["--set", "patcher__compression_rate=4"]
    assert call("fit", home / "train.csv", *TINY, *rate, "--patcher", "reinpatch-small",
                "--model", "named") == 0  # fmt: skip
    load_patcher("reinpatch-small").save_pretrained("folder")
    assert call("fit", home / "train.csv", *TINY, *rate, "--patcher", "folder",
                "--model", "found") == 0  # fmt: skip
    for name in ("named", "found"):
        patcher = Forecaster.load(name).network_.patcher
        assert patcher.is_frozen
        assert patcher.compression_rate == 4


def test_settings_of_a_policy_can_be_given(home):
    policy = ["--patcher", "reinpatch", "--set", "patcher__compression_rate=4"]
    policy += ["--set", "patcher__gradient__num_samples=2"]
    assert call("fit", home / "train.csv", *TINY, *policy, "--model", "policy") == 0
    assert Forecaster.load("policy").patcher.gradient.num_samples == 2


def test_fit_prints_a_summary(home, tmp_path, capsys):
    assert call("fit", home / "load.csv", *TINY, "--model", "m", "--json") == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert (document["channels"], document["freq"], document["steps"]) == (
        ["load", "price"],
        "h",
        2,
    )
    assert "step 2: training" in err


def test_bounds_and_a_transform_of_counts(tmp_path, capsys):
    counts = np.random.default_rng(0).poisson(np.exp(np.sin(np.arange(80) / 4)))
    pd.DataFrame({"sold": counts}, index=HOURS).to_csv("counts.csv")
    more = ["--bounds", "0,", "--transform", "log1p", "--quantiles", "0.1,0.5,0.9"]
    assert call("fit", "counts.csv", *TINY, *more, "--model", "m") == 0
    model = Forecaster.load("m")
    assert (model.bounds, model.transform) == ([0.0, None], "log1p")
    capsys.readouterr()
    assert call("evaluate", "m", "counts.csv", "--out", "windows.csv", "--json") == 0
    found = json.loads(capsys.readouterr().out)["metrics"][0]
    windows = pd.read_csv("windows.csv")
    assert found["MAE"] == pytest.approx((windows.prediction - windows.actual).abs().mean())
    assert windows[["0.1", "0.5", "0.9"]].min().min() == 0

    assert call("fit", "counts.csv", *TINY, "--init", "m", "--model", "tuned") == 0
    tuned = Forecaster.load("tuned")
    assert (tuned.bounds, tuned.transform) == ([0.0, None], "log1p")
    assert call("fit", "counts.csv", *TINY, "--bounds", "-5,10", "--model", "two") == 0
    assert Forecaster.load("two").bounds == [-5.0, 10.0]
    capsys.readouterr()
    assert call("fit", "counts.csv", *TINY, "--bounds", ",3", "--model", "three") == 2
    assert "fit with wider bounds. (Option: --bounds.)" in capsys.readouterr().err
    assert call("fit", "counts.csv", *TINY, "--transform", "box_cox", "--model", "three") == 2
    assert "has 0.0 at " in capsys.readouterr().err


@pytest.mark.parametrize("ending", ["csv.gz", "csv.xz", "parquet", "tsv"])
def test_every_format_gives_the_same_model(home, ending, tmp_path):
    train = wide()[:70]
    if ending == "parquet":
        train.to_parquet("x.parquet")
    else:
        train.to_csv(f"x.{ending}", sep="\t" if ending == "tsv" else ",")
    assert call("fit", f"x.{ending}", *TINY, "--model", "m") == 0
    found, expected = (Forecaster.load(path).predict() for path in ("m", home / "out"))
    pd.testing.assert_frame_equal(found, expected)


def test_a_long_file_with_gaps_quantiles_and_other_names(tmp_path, capsys):
    day = pd.date_range("2024", periods=60)
    frame = pd.concat(
        [pd.DataFrame({"shop": s, "day": day, "sold": np.arange(60.0)}) for s in "ab"]
    )
    frame.drop(index=30).to_csv("long.csv", index=False)
    options = ["--item-id", "shop", "--timestamp", "day", "--target", "sold", "--model", "m"]
    assert call("fit", "long.csv", *TINY, *options) == 2
    assert "(Option: --missing.)" in capsys.readouterr().err
    more = ["--missing", "mask", "--quantiles", "0.1,0.5,0.9"]
    assert call("fit", "long.csv", *TINY, *options, *more) == 0
    capsys.readouterr()
    assert call("predict", "m", "long.csv", "--out", "f.csv") == 0
    assert capsys.readouterr().out == ""
    forecast = pd.read_csv("f.csv")
    assert list(forecast) == [
        "item_id",
        "timestamp",
        "target_name",
        "prediction",
        "0.1",
        "0.5",
        "0.9",
    ]
    assert forecast["item_id"].tolist() == ["a"] * 4 + ["b"] * 4
    wide().to_csv("wide.csv")
    assert call("predict", "m", "wide.csv") == 2
    assert "must have the column 'shop'" in capsys.readouterr().err


def test_settings_reach_nested_parameters(home, capsys):
    more = ["--set", "patcher__patch_length=4", "--set", "trainer__learning_rate=1e-4"]
    assert call("fit", home / "load.csv", *TINY, *more, "--model", "m") == 0
    model = Forecaster.load("m")
    assert (model.patcher.patch_length, model.trainer.learning_rate) == (4, 1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "patcher__length=4"], "no parameter 'length'. Did you mean 'patch_length'?"),
        (["--set", "patcher__stride=x"], "The 'stride' parameter of FixedPatcher must be an int"),
        (["--set", "horizon=4"], "Use --horizon"),
        (["--set", "horizon"], "--set needs NAME=VALUE"),
        (["--quantiles", "0.1;0.5"], "--quantiles must be numbers"),
        (["--patcher", "fixd"], "Did you mean 'fixed'?"),
        (["--patcher", "os:getcwd"], "not a subclass of Patcher"),
        (["--patcher", "absent.module:X"], "cannot be imported"),
        (["--horizon", "0"], "'horizon' parameter of Forecaster must be an int"),
        (["--horizon", "200"], "Series 'series' has 80 observations"),
        (["--device", "tpu"], "'device' parameter"),
        (["--resume"], "Omit --resume"),
        (["--init", "absent"], "Pass the folder of a saved model"),
        (["--target", "loda"], "Did you mean 'load'?"),
        (["--holdout", "3"], "--holdout must be at least the horizon, 4, and less than the 80"),
        (["--holdout", "80"], "--holdout must be at least the horizon, 4, and less than the 80"),
        (["--end", "2023-12-31"], "before the first stamp of the file, '2024-01-01 00:00:00'"),
        (["--end", "5"], "--end must be a stamp that is written like those of the file"),
        (["--end", "2024-01-03T00+01:00"], "--end must be a stamp that is written like those"),
        (["--end", "2024-01-03", "--holdout", "9"], "--end and --holdout exclude each other"),
    ],
)
def test_a_mistake_leaves_nothing_behind(home, capsys, arguments, message, tmp_path):
    assert call("fit", home / "load.csv", *TINY, "--model", "m", *arguments) == 2
    out, err = capsys.readouterr()
    assert message in err.splitlines()[-1]
    assert (out, list(tmp_path.iterdir())) == ("", [])


def test_models_are_replaced_only_with_force(home, capsys):
    before = (home / "out" / "model.safetensors").read_bytes()
    assert call("fit", home / "load.csv", *TINY, "--model", home / "out") == 2
    assert "Pass --force" in capsys.readouterr().err
    assert (home / "out" / "model.safetensors").read_bytes() == before
    assert call("fit", home / "load.csv", *TINY, "--model", "m") == 0
    assert call("fit", home / "load.csv", *TINY, "--model", "m", "--force", "--seed", 1) == 0
    assert Forecaster.load("m").random_state == 1


def test_fine_tuning_begins_with_the_weights_of_a_model(home):
    assert call("fit", home / "load.csv", *TINY, "--model", "m", "--init", home / "out") == 0
    assert Forecaster.load("m").record_.history[0]["step"] == 0
    short = ["--horizon", 4, "--max-steps", 4]  # the rest is as in the model
    assert call("fit", home / "load.csv", *short, "--model", "n", "--init", home / "out") == 0
    assert Forecaster.load("n").context_length == Forecaster.load(home / "out").context_length


def test_a_patcher_of_the_user(home, tmp_path, capsys):
    (tmp_path / "mine_of_fit.py").write_text(
        "from adaptivepatch import FixedPatcher\n"
        "class MyPatcher(FixedPatcher):\n    name = 'mine'\n"
    )
    plugin = ["--patcher", "mine_of_fit:MyPatcher"]
    assert call("fit", home / "load.csv", *TINY, *plugin, "--model", "m") == 0
    capsys.readouterr()
    assert call("predict", "m") == 2
    assert "--patcher mine_of_fit:MyPatcher" in capsys.readouterr().err
    assert call("predict", "m", *plugin) == 0


# ------------------------------------------------------------------------------ interruption


def test_ctrl_c_saves_the_best_model(home, tmp_path):
    # A background process starts with SIGINT ignored, and so do its children.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from adaptivepatch.cli import main; main()"
    )
    slow = ["--max-steps", 100000, "--set", "trainer__validate_every=2", "--model", tmp_path / "m"]
    arguments = ["fit", home / "load.csv", *TINY, *slow]
    with subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        process.stderr.readline()  # the first validation
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=280)
    assert process.returncode == 130
    assert out.startswith("Wrote ")
    assert "Traceback" not in err
    assert "--resume" in err.splitlines()[-1]
    assert Forecaster.load("m").record_.interrupted


@pytest.fixture
def interrupted(home, monkeypatch, tmp_path, capsys):
    """The arguments of a fit that was interrupted after step 2 of 6."""

    def announce(step, metrics):
        raise KeyboardInterrupt

    more = ["--max-steps", 6, "--set", "trainer__validate_every=2", "--model", tmp_path / "m"]
    fit = ["fit", home / "load.csv", *TINY, *more]
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["adaptivepatch.cli.fit"], "_announce", announce)
        assert call(*fit) == 130
    assert "interrupted at step 2 of 6" in capsys.readouterr().err
    assert (tmp_path / "m" / CHECKPOINT).is_dir()
    return fit


def test_resuming_gives_the_model_of_an_uninterrupted_fit(interrupted, tmp_path):
    assert call(*interrupted, "--resume") == 0
    assert not (tmp_path / "m" / CHECKPOINT).exists()
    assert call(*interrupted[:-1], "whole") == 0
    resumed, whole = Forecaster.load("m"), Forecaster.load("whole")
    assert not resumed.record_.interrupted
    pd.testing.assert_frame_equal(resumed.predict(), whole.predict(), check_exact=True)


def test_a_checkpoint_is_replaced_only_with_force(interrupted, tmp_path, capsys):
    assert call(*interrupted) == 2
    err = capsys.readouterr().err
    assert "--resume" in err
    assert "--force" in err
    assert call(*interrupted, "--seed", 5, "--resume") == 2
    assert "seed" in capsys.readouterr().err
    assert (tmp_path / "m" / CHECKPOINT).is_dir()
    assert call(*interrupted, "--force") == 0
    assert not (tmp_path / "m" / CHECKPOINT).exists()


def test_an_interruption_before_anything_was_learned_leaves_nothing(home, monkeypatch, tmp_path):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Forecaster, "fit", interrupted)
    assert call("fit", home / "load.csv", *TINY, "--model", "m") == 130
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------- predict, evaluate, segment


def test_predict_writes_csv_to_the_output_stream(home, capsys):
    assert call("predict", home / "out") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[0] == "item_id,timestamp,target_name,prediction"
    assert len(out.splitlines()) == 1 + 2 * 4


def test_predict_json_is_what_python_predicts(home, capsys):
    assert call("predict", home / "out", home / "load.csv", "--horizon", 2, "--json") == 0
    rows = json.loads(capsys.readouterr().out)["forecast"]
    expected = Forecaster.load(home / "out").predict(wide().reset_index(), horizon=2)
    assert [row["prediction"] for row in rows] == expected["prediction"].tolist()
    assert rows[0]["timestamp"] == "2024-01-04 08:00:00"


def test_predict_further_needs_rollout(home, capsys):
    assert call("predict", home / "out", "--horizon", 6) == 2
    assert "(Option: --recursive.)" in capsys.readouterr().err
    assert call("predict", home / "out", "--horizon", 6, "--recursive") == 0


def test_outputs_are_replaced_only_with_force(home, capsys):
    for command in (["predict", home / "out"], ["segment", home / "out"]):
        for force, status in (([], 0), ([], 2), (["--force"], 0)):
            assert call(*command, "--out", f"{command[0]}.csv", *force) == status
    load = home / "load.csv"
    before = load.read_bytes()
    assert call("predict", home / "out", load, "--out", load, "--force") == 2
    assert "never replaced" in capsys.readouterr().err
    assert load.read_bytes() == before


def test_a_file_with_other_columns_is_refused(home, capsys):
    wide().rename(columns={"load": "demand"}).to_csv("other.csv")
    assert call("predict", home / "out", "other.csv") == 2
    assert "must have the column 'load'" in capsys.readouterr().err


def test_evaluate_prints_the_metrics_of_a_backtest(home, capsys):
    arguments = [
        "evaluate",
        home / "out",
        home / "load.csv",
        "--start",
        HOURS[70],
        "--by",
        "channel",
    ]
    assert call(*arguments, "--json", "--out", "w.parquet") == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    backtest = Forecaster.load(home / "out").backtest(wide().reset_index(), start=HOURS[70])
    assert [row["MSE"] for row in document["metrics"]] == backtest.metrics(by="channel")[
        "MSE"
    ].tolist()
    assert (document["windows"], document["windows_seen_in_fit"]) == (len(backtest), 0)
    assert "windows have targets that the model was trained on" not in err
    windows = pd.read_parquet("w.parquet")
    assert len(windows) == backtest.actual.size
    assert windows["timestamp"].dtype.kind == "M"
    assert call(*arguments) == 0
    assert capsys.readouterr().out.splitlines()[0].split()[:2] == ["channel", "MSE"]


def test_evaluate_counts_windows_that_the_model_was_trained_on(home, capsys):
    assert call("evaluate", home / "out", home / "load.csv", "--stride", 10) == 0
    error = capsys.readouterr().err
    assert "windows have targets that the model was trained on" in error
    assert "after the last row of fit, 2024-01-03 21:00:00." in error


def test_evaluate_says_of_which_interval_the_coverage_is(home, capsys):
    quantiles = ["--quantiles", "0.05,0.5,0.9", "--holdout", 10]
    assert call("fit", home / "load.csv", *TINY, *quantiles, "--model", "m") == 0
    capsys.readouterr()
    assert call("evaluate", "m", home / "load.csv") == 0
    assert "QuantileLoss  Coverage (85 %)  " in capsys.readouterr().out.splitlines()[0]
    assert call("evaluate", "m", home / "load.csv", "--json") == 0
    assert json.loads(capsys.readouterr().out)["coverage_level"] == 0.85
    assert call("evaluate", home / "out", home / "load.csv", "--json") == 0
    assert "coverage_level" not in json.loads(capsys.readouterr().out)


# ------------------------------------------------------------------------- rows held out


def evaluated(*arguments, capsys):
    """What evaluate prints as JSON, without the name of the model."""
    capsys.readouterr()
    assert call("evaluate", *arguments, "--json") == 0
    return json.loads(capsys.readouterr().out) | {"model": None}


@pytest.mark.parametrize("limit", [("--holdout", 10), ("--end", HOURS[69])])
def test_rows_held_out_are_not_trained_on_and_evaluated_by_default(home, limit, capsys):
    assert call("fit", home / "load.csv", *TINY, *limit, "--model", "m", "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["end"] == "2024-01-03 21:00:00"
    assert "10 of 80 rows are held out." in err
    notes = [json.loads((path / "cli.json").read_text()) for path in (Path("m"), home / "out")]
    assert [note.get("rows_held_out") for note in notes] == [True, None]
    expected = Forecaster.load(home / "out").predict()  # fitted on the first 70 rows
    pd.testing.assert_frame_equal(Forecaster.load("m").predict(), expected, check_exact=True)
    found = evaluated("m", home / "load.csv", capsys=capsys)
    start = ["--start", HOURS[70]]
    assert found == evaluated(home / "out", home / "load.csv", *start, capsys=capsys)
    assert (found["start"], found["windows"]) == ("2024-01-03 22:00:00", 10 - 4 + 1)
    refits = evaluated("m", home / "load.csv", "--refit-every", 4, capsys=capsys)
    assert refits["windows"] == found["windows"]
    earlier = evaluated("m", home / "load.csv", "--start", HOURS[60], capsys=capsys)
    assert earlier["windows_seen_in_fit"] == 10


def test_rows_held_out_of_a_file_without_later_rows(home, capsys):
    assert call("fit", home / "load.csv", *TINY, "--holdout", 10, "--model", "m") == 0
    capsys.readouterr()
    assert call("evaluate", "m", home / "train.csv") == 2
    error = capsys.readouterr().err
    assert "end at '2024-01-03 21:00:00', and the file ends at '2024-01-03 21:00:00'" in error
    assert call("evaluate", "m", home / "train.csv", "--start", HOURS[60]) == 0


@pytest.mark.parametrize("name", ["none", "time"])
def test_rows_with_integer_stamps_are_held_out(name, capsys):
    frame = wide().reset_index(drop=True)
    frame.rename_axis("time").to_csv("x.csv", index=name == "time")
    for limit in (["--holdout", 10], ["--end", 69]):
        assert call("fit", "x.csv", *TINY, *limit, "--model", "m", "--force") == 0
        assert "rows up to 69;" in capsys.readouterr().out
        assert evaluated("m", "x.csv", capsys=capsys)["start"] == 70


def test_all_series_of_a_file_are_held_out_from_one_stamp_on(capsys):
    parts = [("a", slice(0, 80)), ("short", slice(0, 60)), ("new", slice(71, 80))]
    frame = pd.concat([wide()[rows].assign(item_id=item) for item, rows in parts])
    frame.to_csv("x.csv")
    assert call("fit", "x.csv", *TINY, "--holdout", 10, "--model", "m", "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["items"] == 2
    assert "19 of 149 rows are held out, among them all rows of 1 series." in err
    model = Forecaster.load("m")
    assert [str(index[-1]) for index in model.history_.index] == [str(HOURS[69]), str(HOURS[59])]
    windows = evaluated("m", "x.csv", "--by", "item", capsys=capsys)["metrics"]
    assert [row["item"] for row in windows] == ["a", "new"]


def test_periods_are_held_out(capsys):
    wide().to_period("h").to_parquet("x.parquet")
    assert call("fit", "x.parquet", *TINY, "--holdout", 10, "--model", "m") == 0
    assert evaluated("m", "x.parquet", capsys=capsys)["start"] == "2024-01-03 22:00:00"


# ---------------------------------------------------------------------------------- stamps


def stamps_of(*arguments, capsys):
    """The stamps in the tables that a command prints and writes, by column."""
    capsys.readouterr()
    assert call(*arguments, "--json", "--out", "x.csv", "--force") == 0
    document = json.loads(capsys.readouterr().out)
    rows = document.get("forecast") or document.get("patches") or []
    written = pd.read_csv("x.csv", dtype=str)
    columns = [name for name in ("cutoff", "timestamp", "start", "end") if name in written]
    if arguments[0] != "evaluate":
        assert [[row[name] for name in columns] for row in rows] == written[columns].values.tolist()
        assert call(*arguments) == 0
        printed = capsys.readouterr().out.splitlines()
        lines = Path("x.csv").read_text().splitlines()
        assert printed == lines
    return {name: written[name].iloc[0] for name in columns}


@pytest.mark.parametrize(
    ("freq", "first", "last", "after"),
    [
        ("h", "2024-01-03 08:00:00", "2024-01-03 23:00:00", "2024-01-04 00:00:00"),
        ("D", "2024-02-26", "2024-03-12", "2024-03-13"),
    ],
)
def test_all_commands_write_stamps_alike(freq, first, last, after, capsys):
    """The first forecast is at midnight; without a time it would look like a day."""
    index = pd.date_range("2024-01-01", periods=80, freq=freq, name="date")
    wide().set_axis(index).rename_axis("date").to_csv("load.csv")
    assert call("fit", "load.csv", *TINY, "--holdout", 8, "--model", "m") == 0
    assert f"rows up to {last};" in capsys.readouterr().out
    forecast = stamps_of("predict", "m", "--horizon", 1, capsys=capsys)
    assert forecast == {"timestamp": after}
    windows = stamps_of("evaluate", "m", "load.csv", "--stride", 24, capsys=capsys)
    assert windows == {"cutoff": last, "timestamp": after}
    patches = stamps_of("segment", "m", capsys=capsys)
    assert patches == {"start": first, "end": last}
    assert call("evaluate", "m", "load.csv") == 0
    assert capsys.readouterr().err.endswith(f"stride 1, from {after} on.\n")


def test_evaluate_can_refit(home, capsys):
    arguments = ["--start", HOURS[70], "--refit-every", 4, "--json"]
    assert call("evaluate", home / "out", home / "load.csv", *arguments) == 0
    assert json.loads(capsys.readouterr().out)["windows_seen_in_fit"] == 0
    assert call("evaluate", home / "out", home / "load.csv", "--refit-every", 4) == 2
    assert "(Option: --start.)" in capsys.readouterr().err


def test_segment_shows_and_draws_patches(home, capsys, tmp_path):
    assert call("segment", home / "out", "--plot", "p.png", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["patches"]
    assert sum(row["length"] for row in rows if row["target_name"] == "load") == 16
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    assert call("segment", home / "out", home / "load.csv", "--plot", "p.png") == 2
    assert call("segment", home / "out", "--plot", "p.xcf") == 2


def test_segment_measures_the_boundaries_of_each_series(home, capsys):
    assert call("segment", home / "out", home / "load.csv", "--by", "series", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["series"]
    assert {row["target_name"] for row in rows} >= {"load"}
    assert all(row["patches"] == 16 / row["compression_rate"] for row in rows)
    assert all("enrichment_z" in row and 0 <= row["churn"] <= 1 for row in rows)
    for more, message in (
        (["--by", "step"], "must be one of"),
        (["--by", "series", "--plot", "p.png"], "Omit --plot or --by"),
    ):
        assert call("segment", home / "out", home / "load.csv", *more) == 2
        assert message in " ".join(capsys.readouterr().err.split())


def test_segment_states_and_draws_the_boundary_probability_of_a_policy(home, capsys, tmp_path):
    options = [*TINY, "--patcher", "reinpatch", "--set", "patcher__compression_rate=4"]
    assert call("fit", home / "load.csv", *options, "--model", tmp_path / "learned") == 0
    capsys.readouterr()
    assert call("segment", tmp_path / "learned", "--plot", "learned.png", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["patches"]
    assert rows[0]["boundary_prob"] == 1
    assert all(0 < row["boundary_prob"] <= 1 for row in rows)
    assert (tmp_path / "learned.png").read_bytes().startswith(b"\x89PNG")


def test_rows_without_stamps_and_integer_stamps(home, capsys):
    frame = wide().reset_index(drop=True)
    frame.to_csv("none.csv", index=False)
    frame.rename_axis("time").to_csv("time.csv")
    for name in ("none", "time"):
        assert call("fit", f"{name}.csv", *TINY, "--model", name) == 0
        capsys.readouterr()
        assert call("predict", name, f"{name}.csv", "--horizon", 1) == 0
        assert "series,80,load," in capsys.readouterr().out
        assert call("evaluate", name, f"{name}.csv", "--start", 70) == 0


def test_dates_are_read_as_in_fit(home, capsys):
    frame = wide().set_axis(HOURS.strftime("%d/%m/%Y %H:%M")).rename_axis("date")
    frame.to_csv("day_first.csv")
    date_format = ["--date-format", "%d/%m/%Y %H:%M"]
    assert call("fit", "day_first.csv", *TINY, *date_format, "--model", "m") == 0
    capsys.readouterr()
    assert call("predict", "m", "day_first.csv") == 0
    assert "2024-01-04 08:00:00" in capsys.readouterr().out
    end = ["--end", "03/01/2024 21:00", "--model", "n"]
    assert call("fit", "day_first.csv", *TINY, *date_format, *end) == 0
    found = evaluated("n", "day_first.csv", capsys=capsys)
    assert found["start"] == "2024-01-03 22:00:00"
    for start in ("03/01/2024 22:00", "2024-01-03 22:00:00"):  # of the file, or as it is printed
        assert found == evaluated("n", "day_first.csv", "--start", start, capsys=capsys)


def test_short_series_are_refused_or_left_out_by_name(capsys):
    frame = pd.concat(
        [
            pd.DataFrame({"item_id": item, "time": np.arange(n), "v": np.arange(float(n))})
            for item, n in (("long", 60), ("tiny", 3))
        ]
    )
    frame.to_csv("long.csv", index=False)
    assert call("fit", "long.csv", *TINY, "--model", "m") == 2
    assert "(Option: --short.)" in capsys.readouterr().err
    assert call("fit", "long.csv", *TINY, "--model", "m", "--short", "skip", "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["skipped"] == ["tiny"]
    assert "adaptivepatch: warning: " in err


# ------------------------------------------------------------------------- kept checkpoints


@contextmanager
def disk_full_at(number):
    """Let writing the n-th checkpoint fail."""
    from adaptivepatch import model_folder

    save, writes = model_folder.save_file, []

    def full(*arguments):
        writes.append(None)
        if len(writes) == number:
            raise OSError(28, "No space left on device")
        save(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_folder, "save_file", full)
        yield


EVERY_STEP = ["--max-steps", 6, "--set", "trainer__validate_every=1", "--model", "kept"]


def test_a_full_disk_does_not_lose_the_checkpoint(home, capsys):
    with disk_full_at(4):
        assert call("fit", home / "load.csv", *TINY, *EVERY_STEP) == 2
    error = capsys.readouterr().err
    assert "No space left on device" in error
    assert "run the same command with --resume" in error
    assert call("fit", home / "load.csv", *TINY, *EVERY_STEP, "--resume") == 0


def test_force_keeps_the_checkpoint_until_there_is_a_new_one(home):
    with disk_full_at(4):
        assert call("fit", home / "load.csv", *TINY, *EVERY_STEP) == 2
    before = (Path("kept") / "checkpoint" / "train.safetensors").read_bytes()
    wrong = ["--force", "--validation-rows", 1]
    assert call("fit", home / "load.csv", *TINY, *EVERY_STEP, *wrong) == 2
    assert (Path("kept") / "checkpoint" / "train.safetensors").read_bytes() == before
    assert call("fit", home / "load.csv", *TINY, *EVERY_STEP, "--force") == 0
    assert not list(Path("kept").glob("checkpoint*"))


def test_fine_tuning_in_place_can_be_resumed(home):
    assert call("fit", home / "load.csv", *TINY, "--model", "kept") == 0
    again = [*TINY, *EVERY_STEP, "--init", "kept"]
    with disk_full_at(4):
        assert call("fit", home / "load.csv", *again, "--force") == 2
    assert call("fit", home / "load.csv", *again, "--resume") == 0
