"""Model folders and checkpoints that are damaged, foreign, newer or cannot be written."""

from __future__ import annotations

import errno
import json
import pickle

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from adaptivepatch import FixedPatcher, Forecaster, TransformerBackbone, files, model_folder
from adaptivepatch.errors import (
    InvalidModelError,
    InvalidParameterError,
    OutputError,
    OutputExistsError,
)
from tests.bad_inputs.helpers import (
    Case,
    assert_refused,
    fitted,
    parametrized,
    tiny,
    wide,
)

MODEL, PARAMETER, OUTPUT = InvalidModelError, InvalidParameterError, OutputError


def contents(folder):
    """Bytes and times of everything in a folder."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in sorted(folder.rglob("*"))
    }


# ------------------------------------------------------------------------------------- loading


BACKBONE, NAN = "parameters__backbone__", float("nan")


def load(name, damage, error, text):
    """A case of loading a model that was damaged; nothing in its folder changes."""

    def call(folder):
        model = folder / "model"
        fitted().save(model)
        damage(model)
        before = contents(folder)
        try:
            Forecaster.load(model)
        finally:
            assert contents(folder) == before

    return Case(name, call, error, text)


def config(name, change, error, text):
    """A case of a model whose config says something else."""

    def damage(folder):
        file = folder / "config.json"
        parsed = json.loads(file.read_text())
        change(parsed)
        file.write_text(json.dumps(parsed))

    return load(name, damage, error, text)


def put(**changes):
    """Change entries of the config by their path, such as parameters__horizon."""

    def change(parsed):
        for path, value in changes.items():
            *outer, last = path.split("__")
            place = parsed
            for key in outer:
                place = place[key]
            place[last] = value

    return change


def weights(content):
    """Replace the file of weights."""
    return lambda folder: (folder / "model.safetensors").write_bytes(content)


def tensors(change, *, of_an_earlier_version=True):
    """Replace tensors in the file of weights, whose digest an earlier version did not keep."""

    def damage(folder):
        file, config = folder / "model.safetensors", folder / "config.json"
        save_file(change(load_file(file)), file)
        if of_an_earlier_version:
            parsed = json.loads(config.read_text())
            del parsed["weights_sha256"]
            config.write_text(json.dumps(parsed))

    return damage


def truncate(name, size):
    """Cut a file of the model."""

    def damage(folder):
        file = folder / name
        file.write_bytes(file.read_bytes()[:size])

    return damage


def torch_file(folder):
    torch.save({"weights": torch.ones(2)}, folder / "model.safetensors")


def folder_of_that_name(folder):
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()


def text(content):
    """Replace the config."""
    return lambda folder: (folder / "config.json").write_text(content)


LOADING = [
    Case(
        "absent folder",
        lambda at: Forecaster.load(at / "absent"),
        MODEL,
        (
            "'…/absent/config.json' does not exist. Pass the folder of a saved model, which holds "
            "config.json and model.safetensors."
        ),
    ),
    Case(
        "a file for a folder",
        lambda at: ((at / "x").write_text("x"), Forecaster.load(at / "x")),
        MODEL,
        (
            "'…/x/config.json' does not exist. Pass the folder of a saved model, which holds "
            "config.json and model.safetensors."
        ),
    ),
    Case(
        "an empty folder",
        lambda at: Forecaster.load(at),
        MODEL,
        (
            "'…/config.json' does not exist. Pass the folder of a saved model, which holds "
            "config.json and model.safetensors."
        ),
    ),
    Case(
        "a number for a folder",
        lambda at: Forecaster.load(5),
        TypeError,
        "The 'path' argument must be a str or Path. Got 5 instead.",
    ),
    Case(
        "an empty name",
        lambda at: Forecaster.load(""),
        MODEL,
        (
            "'config.json' does not exist. Pass the folder of a saved model, which holds "
            "config.json and model.safetensors."
        ),
    ),
    Case(
        "bytes for a folder",
        lambda at: Forecaster.load(b"model"),
        TypeError,
        "The 'path' argument must be a str or Path. Got b'model' instead.",
    ),
    Case(
        "a name with a zero",
        lambda at: Forecaster.load("a\0b"),
        MODEL,
        (
            "'a\\x00b/config.json' does not exist. Pass the folder of a saved model, which holds "
            "config.json and model.safetensors."
        ),
    ),
    load(
        "weights of another save",
        tensors(lambda t: t | {"naive_scale": t["naive_scale"] * 2}, of_an_earlier_version=False),
        MODEL,
        (
            "The model.safetensors in '…/model' does not have the digest that config.json states: "
            "a save was interrupted, or one of the two files was changed or copied without the "
            "other. Save the model again, or copy the whole folder."
        ),
    ),
    load(
        "weights of one byte",
        tensors(lambda t: t | {"naive_scale": t["naive_scale"].to(torch.float8_e4m3fn)}),
        MODEL,
        (
            "The config.json in '…/model' does not describe a saved model (naive_scale holds "
            "torch.float8_e4m3fn, not torch.float64). Save the model again."
        ),
    ),
    load(
        "a network of one byte",
        tensors(lambda t: {k: v.to(torch.float8_e5m2) if "norm" in k else v for k, v in t.items()}),
        MODEL,
        (
            "The weights in '…/model' do not fit its config.json ('…' holds torch.float8_e5m2, not "
            "torch.float32). Save the model again."
        ),
    ),
    config(
        "wider than its weights",
        put(**{BACKBONE + "parameters__d_model": 16384}),
        MODEL,
        (
            "The weights in '…/model' do not fit its config.json, which describes a much larger "
            "network. Save the model again."
        ),
    ),
    config(
        "deeper than its weights",
        put(**{BACKBONE + "parameters__num_layers": 10**6}),
        MODEL,
        (
            "The weights in '…/model' do not fit its config.json, which describes a much larger "
            "network. Save the model again."
        ),
    ),
    config(
        "items in another order",
        put(history__layout__item_order=["another"]),
        MODEL,
        (
            "The config.json in '…/model' does not describe a saved model (history.layout must "
            "order the item_ids of the history). Save the model again."
        ),
    ),
    config(
        "a transform without exponents",
        put(parameters__transform="log1p"),
        MODEL,
        (
            "The config.json in '…/model' does not describe a saved model (model.safetensors lacks "
            "'scaling.exponent'). Save the model again."
        ),
    ),
    config(
        "bounds reversed",
        put(parameters__bounds=[1, 0]),
        MODEL,
        (
            "The config.json in '…/model' does not describe a saved model (InvalidParameterError: "
            "The 'bounds' parameter of Forecaster must be 'nonnegative' or a pair of finite "
            "numbers (low, high) with low < high, where None leaves a side open. Got [1, 0] "
            "instead.). Save the model again."
        ),
    ),
    config(
        "an item id of a list",
        put(history__item_ids=[["series"]]),
        MODEL,
        (
            "The config.json in '…/model' does not describe a saved model "
            "(config.history.item_ids[0] must be a string or a number, not list). Save the model "
            "again."
        ),
    ),
    config(
        "a step that is no date's",
        put(history__freq=1),
        MODEL,
        (
            "The config.json in '…/model' does not describe a saved model (freq, unit and timezone "
            "of the history contradict each other). Save the model again."
        ),
    ),
    load(
        "no weights",
        lambda at: (at / "model.safetensors").unlink(),
        MODEL,
        (
            "'…/model/model.safetensors' does not exist. Pass the folder of a saved model, which "
            "holds config.json and model.safetensors."
        ),
    ),
    load(
        "no config",
        lambda at: (at / "config.json").unlink(),
        MODEL,
        (
            "'…/model/config.json' does not exist. Pass the folder of a saved model, which holds "
            "config.json and model.safetensors."
        ),
    ),
    load(
        "config is a folder",
        folder_of_that_name,
        MODEL,
        (
            "'…/model/config.json' does not exist. Pass the folder of a saved model, which holds "
            "config.json and model.safetensors."
        ),
    ),
    load(
        "empty weights",
        weights(b""),
        MODEL,
        (
            "'…/model/model.safetensors' is damaged or not a safetensors file (…). Save the model "
            "again."
        ),
    ),
    load(
        "weights cut in the header",
        truncate("model.safetensors", 100),
        MODEL,
        (
            "'…/model/model.safetensors' is damaged or not a safetensors file (…). Save the model "
            "again."
        ),
    ),
    load(
        "weights cut in the data",
        truncate("model.safetensors", -40),
        MODEL,
        (
            "'…/model/model.safetensors' is damaged or not a safetensors file (…). Save the model "
            "again."
        ),
    ),
    load(
        "a pickle as weights",
        weights(pickle.dumps({"weights": 1})),
        MODEL,
        (
            "'…/model/model.safetensors' is damaged or not a safetensors file (…). Save the model "
            "again."
        ),
    ),
    load(
        "a torch file as weights",
        torch_file,
        MODEL,
        (
            "'…/model/model.safetensors' is damaged or not a safetensors file (…). Save the model "
            "again."
        ),
    ),
    load(
        "header of nonsense",
        weights(b"\xff" * 64),
        MODEL,
        (
            "'…/model/model.safetensors' is damaged or not a safetensors file (…). Save the model "
            "again."
        ),
    ),
    load(
        "foreign weights",
        tensors(lambda _: {"bert.weight": torch.ones(2)}),
        MODEL,
        (
            "The config.json in '…/model' does not describe a saved model (model.safetensors lacks "
            "'history'). Save the model again."
        ),
    ),
    load(
        "a tensor too many",
        tensors(lambda t: {**t, "network.more": torch.ones(2)}),
        MODEL,
        (
            "The weights in '…/model' do not fit its config.json (Unexpected key(s) in "
            'state_dict: "more"). Save the model again.'
        ),
    ),
    load(
        "a tensor of another shape",
        tensors(lambda t: {**t, "network.head.projection.weight": torch.ones(2)}),
        MODEL,
        ("The weights in '…/model' do not fit its config.json (size…). Save the model again."),
    ),
    load(
        "a weight that is no number",
        tensors(lambda t: {**t, (bias := "network.head.projection.bias"): t[bias] / 0}),
        MODEL,
        (
            "The weights of 'head.projection.bias' in '…/model' are not all finite. Save the model "
            "again."
        ),
    ),
    load(
        "scaling of another shape",
        tensors(lambda t: {**t, "scaling.mean": torch.ones(5, 5).double()}),
        MODEL,
        (
            "The config.json in '…/model' does not describe a saved model (items, channels, stamps "
            "and values are of different sizes). Save the model again."
        ),
    ),
    load(
        "history of another shape",
        tensors(lambda t: {**t, "history": torch.ones(3).double()}),
        MODEL,
        (
            "The config.json in '…/model' does not describe a saved model (items, channels, stamps "
            "and values are of different sizes). Save the model again."
        ),
    ),
    load(
        "weights of nan",
        tensors(
            lambda t: {k: v * float("nan") if v.is_floating_point() else v for k, v in t.items()}
        ),
        MODEL,
        (
            "The config.json in '…/model' does not describe a saved model (scaling must be "
            "finite). Save the model again."
        ),
    ),
    load(
        "config of text",
        text("weights: yes"),
        MODEL,
        ("'…/model/config.json' is not the JSON of a saved model (…). Save the model again."),
    ),
    load(
        "config of bytes",
        lambda at: (at / "config.json").write_bytes(b"\xff\xfe\x00"),
        MODEL,
        ("'…/model/config.json' is not the JSON of a saved model (…). Save the model again."),
    ),
    load(
        "config cut",
        truncate("config.json", 200),
        MODEL,
        ("'…/model/config.json' is not the JSON of a saved model (…). Save the model again."),
    ),
    load(
        "config is a list",
        text("[1, 2]"),
        MODEL,
        ("'…/model/config.json' is not the JSON of a saved model (…). Save the model again."),
    ),
    load(
        "config is a number",
        text("3"),
        MODEL,
        ("'…/model/config.json' is not the JSON of a saved model (…). Save the model again."),
    ),
    Case(
        "a name too long",
        lambda at: Forecaster.load("x" * 300),
        MODEL,
        (
            "'…/config.json' does not exist. Pass the folder of a saved model, which holds "
            "config.json and model.safetensors."
        ),
    ),
    load(
        "config nested deeply",
        text("[" * 100_000),
        MODEL,
        ("'…/model/config.json' is not the JSON of a saved model (…). Save the model again."),
    ),
    load(
        "foreign config",
        text('{"model_type": "bert"}'),
        MODEL,
        (
            "'…/model' does not hold a saved 'forecaster': its config.json has kind=None and "
            "format=None. Load the folder with the class that saved it."
        ),
    ),
    load(
        "only kind and format",
        text('{"kind": "forecaster", "format": 1}'),
        MODEL,
        (
            "The config.json in '…/model' does not describe a saved model (config lacks "
            "'adaptivepatch'). Save the model again."
        ),
    ),
    config(
        "newer format",
        put(format=99, adaptivepatch="9.9"),
        MODEL,
        (
            "'…/model' was saved in format 99 by adaptivepatch 9.9, but this version, …, reads "
            "only formats up to 1. Update adaptivepatch-forecasting."
        ),
    ),
    config(
        "format 0",
        put(format=0),
        MODEL,
        (
            "'…/model' does not hold a saved 'forecaster': its config.json has kind='forecaster' "
            "and format=0. Load the folder with the class that saved it."
        ),
    ),
    config(
        "format true",
        put(format=True),
        MODEL,
        (
            "'…/model' does not hold a saved 'forecaster': its config.json has kind='forecaster' "
            "and format=True. Load the folder with the class that saved it."
        ),
    ),
    config(
        "format text",
        put(format="1"),
        MODEL,
        (
            "'…/model' does not hold a saved 'forecaster': its config.json has kind='forecaster' "
            "and format='1'. Load the folder with the class that saved it."
        ),
    ),
    config(
        "other kind",
        put(kind="window_regressor"),
        MODEL,
        (
            "'…/model' does not hold a saved 'forecaster': its config.json has "
            "kind='window_regressor' and format=1. Load the folder with the class that saved it."
        ),
    ),
    config(
        "no history",
        lambda c: c.pop("history"),
        MODEL,
        (
            "The config.json in '…/model' does not describe a saved model (config lacks "
            "'history'). Save the model again."
        ),
    ),
    config(
        "no parameters",
        lambda c: c.pop("parameters"),
        MODEL,
        (
            "The config.json in '…/model' does not describe a saved model (config lacks "
            "'parameters'). Save the model again."
        ),
    ),
    config(
        "parameters of text",
        put(parameters="none"),
        MODEL,
        (
            "The config.json in '…/model' does not describe a saved model (config.parameters must "
            "be a mapping, not 'none'). Save the model again."
        ),
    ),
    config(
        "unknown parameter",
        put(parameters__epochs=3),
        MODEL,
        (
            "The config.json in '…/model' does not describe a saved model (config.parameters has "
            "the unknown key 'epochs'). Save the model again."
        ),
    ),
    config(
        "horizon text",
        put(parameters__horizon="4"),
        MODEL,
        (
            "The config.json in '…/model' does not describe a saved model (InvalidParameterError: "
            "The 'horizon' parameter of Forecaster must be an int in the range [1, inf). Got '4' "
            "instead.). Save the model again."
        ),
    ),
    config(
        "horizon -4",
        put(parameters__horizon=-4),
        MODEL,
        (
            "The config.json in '…/model' does not describe a saved model (InvalidParameterError: "
            "The 'horizon' parameter of Forecaster must be an int in the range [1, inf). Got -4 "
            "instead.). Save the model again."
        ),
    ),
    config(
        "another horizon",
        put(parameters__horizon=5),
        MODEL,
        ("The weights in '…/model' do not fit its config.json (size…). Save the model again."),
    ),
    config(
        "horizon beyond memory",
        put(parameters__horizon=10**15),
        MODEL,
        (
            "The config.json in '…/model' does not describe a saved model (InvalidParameterError: "
            "The 'horizon' parameter of Forecaster must be at most 1048576. Got 1000000000000000 "
            "instead.). Save the model again."
        ),
    ),
    config(
        "weights beyond memory",
        put(**{BACKBONE + "parameters__d_model": 10**15}),
        MODEL,
        (
            "The weights in '…/model' do not fit its config.json, which describes a much larger "
            "network. Save the model again."
        ),
    ),
    config(
        "unknown patcher",
        put(parameters__patcher__name="mine"),
        MODEL,
        (
            "The model uses a patcher that is not registered. Unknown patcher 'mine'. Available: "
            "['change_point', …]. To load a class of your own, pass classes=[YourClass]."
        ),
    ),
    config(
        "patcher with a path",
        put(parameters__patcher__name="../../etc/passwd"),
        MODEL,
        (
            "The model uses a patcher that is not registered. Unknown patcher '../../etc/passwd'. "
            "Available: ['change_point', …]. To load a class of your own, pass classes=[YourClass]."
        ),
    ),
    config(
        "patcher of a module",
        put(parameters__patcher__name="os.system"),
        MODEL,
        (
            "The model uses a patcher that is not registered. Unknown patcher 'os.system'. "
            "Available: ['change_point', …]. To load a class of your own, pass classes=[YourClass]."
        ),
    ),
    config(
        "patcher of no name",
        put(parameters__patcher__name=None),
        MODEL,
        (
            "The config.json in '…/model' does not describe a saved model "
            "(config.parameters.patcher.name must be a string, not None). Save the model again."
        ),
    ),
    config(
        "patcher of names",
        put(parameters__patcher__name=["fixed"]),
        MODEL,
        (
            "The config.json in '…/model' does not describe a saved model "
            "(config.parameters.patcher.name must be a string, not list). Save the model again."
        ),
    ),
    config(
        "a backbone as patcher",
        put(parameters__patcher={"name": "transformer", "parameters": {}}),
        MODEL,
        (
            "The model uses a patcher that is not registered. Unknown patcher 'transformer'. "
            "Available: ['change_point', …]. To load a class of your own, pass classes=[YourClass]."
        ),
    ),
    config(
        "backbone of another width",
        put(**{BACKBONE + "parameters__d_model": 32}),
        MODEL,
        ("The weights in '…/model' do not fit its config.json (size…). Save the model again."),
    ),
    config(
        "backbone of wrong heads",
        put(**{BACKBONE + "parameters__num_heads": 3}),
        MODEL,
        (
            "The config.json in '…/model' does not describe a saved model (InvalidParameterError: "
            "The 'd_model' parameter of TransformerBackbone must be a multiple of num_heads=3. Got "
            "8 instead.). Save the model again."
        ),
    ),
    config(
        "backbone of unknown size",
        put(**{BACKBONE + "parameters__width": 3}),
        MODEL,
        (
            "The config.json in '…/model' does not describe a saved model (TypeError: …). Save the "
            "model again."
        ),
    ),
    config(
        "trainer of text",
        put(parameters__trainer="fast"),
        MODEL,
        (
            "The config.json in '…/model' does not describe a saved model "
            "(config.parameters.trainer must be a mapping, not 'fast'). Save the model again."
        ),
    ),
    config(
        "precision unknown",
        put(parameters__trainer__precision="float8"),
        MODEL,
        (
            "The config.json in '…/model' does not describe a saved model (InvalidParameterError: "
            "The 'precision' parameter of Trainer must be one of ['bfloat16', 'float32', "
            "'float64']. Got 'float8' instead.). Save the model again."
        ),
    ),
    config(
        "lengths that do not add up",
        put(history__lengths=[5]),
        MODEL,
        (
            "The config.json in '…/model' does not describe a saved model (items, channels, stamps "
            "and values are of different sizes). Save the model again."
        ),
    ),
    config(
        "no unit of stamps",
        put(history__unit="fortnight"),
        MODEL,
        (
            "The config.json in '…/model' does not describe a saved model (config.history.unit "
            "must be one of [None, 's', 'ms', 'us', 'ns'], not 'fortnight'). Save the model again."
        ),
    ),
    config(
        "items without rows",
        put(history__item_ids=["series", "more"]),
        MODEL,
        (
            "The config.json in '…/model' does not describe a saved model (items, channels, stamps "
            "and values are of different sizes). Save the model again."
        ),
    ),
    load(
        "a stamp too few",
        tensors(lambda t: {**t, "stamps": t["stamps"][1:].clone()}),
        MODEL,
        (
            "The config.json in '…/model' does not describe a saved model (items, channels, stamps "
            "and values are of different sizes). Save the model again."
        ),
    ),
    config(
        "step of text",
        put(history__freq="often"),
        MODEL,
        (
            "The config.json in '…/model' does not describe a saved model (InvalidParameterError: "
            "The 'freq' parameter must be a pandas frequency such as 'h' or 'MS' for datetime "
            "stamps. Got 'often' instead.). Save the model again."
        ),
    ),
    config(
        "zone of nowhere",
        put(history__timezone="Mars/Olympus"),
        MODEL,
        (
            "The config.json in '…/model' does not describe a saved model (ValueError: there is no "
            "time zone 'Mars/Olympus' on this machine). Save the model again."
        ),
    ),
    config(
        "one channel less",
        put(history__channels=["a"]),
        MODEL,
        (
            "The config.json in '…/model' does not describe a saved model (items, channels, stamps "
            "and values are of different sizes). Save the model again."
        ),
    ),
    config(
        "record of text",
        put(record="none"),
        MODEL,
        (
            "The config.json in '…/model' does not describe a saved model (config.record must be a "
            "mapping, not 'none'). Save the model again."
        ),
    ),
    config(
        "record of another version",
        put(record__colour="blue"),
        MODEL,
        (
            "The config.json in '…/model' does not describe a saved model (config.record has the "
            "unknown key 'colour'). Save the model again."
        ),
    ),
    config(
        "columns of text",
        put(columns="none"),
        MODEL,
        (
            "The config.json in '…/model' does not describe a saved model (config.columns must be "
            "a mapping, not 'none'). Save the model again."
        ),
    ),
    config(
        "quantiles that were not trained",
        put(parameters__quantiles=[0.1, 0.5, 0.9]),
        MODEL,
        ("The weights in '…/model' do not fit its config.json (size…). Save the model again."),
    ),
]


@parametrized(LOADING)
def test_a_bad_model_is_refused(case, tmp_path):
    assert_refused(case, tmp_path)


# ------------------------------------------------------------------------------------- writing


def full_disk(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def full_safetensors(*_, **__):
    from safetensors import SafetensorError

    raise SafetensorError(
        "Error while serializing: I/O error: No space left on device (os error 28)"
    )


def denied(*_, **__):
    raise PermissionError(errno.EACCES, "Permission denied")


def read_only(*_, **__):
    raise OSError(errno.EROFS, "Read-only file system")


class Stop(Exception):
    """Ends a fit from its callback."""


def stop(*_):
    raise Stop


def begun(folder):
    """Leave a checkpoint behind."""
    with pytest.raises(Stop):
        tiny().fit(wide(), checkpoint=folder, callback=stop)
    return folder


def resumed(name, damage, error, text):
    """A case of a damaged checkpoint."""

    def call(folder):
        damage(begun(folder / "run") / "train.safetensors")
        tiny().fit(wide(), resume=folder / "run")

    return Case(name, call, error, text)


def header(**facts):
    """Replace a checkpoint by one with another header."""
    return lambda file: save_file({"a": torch.ones(1)}, file, {"adaptivepatch": json.dumps(facts)})


def edited(tensors=lambda t: t, facts=lambda f: None, *, has_digest=True):
    """Change tensors or facts of a checkpoint, which earlier versions wrote without a digest."""

    def damage(file):
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata()
        stored = json.loads(metadata["adaptivepatch"])
        facts(stored)
        metadata["adaptivepatch"] = json.dumps(stored)
        if not has_digest:
            del metadata["sha256"]
        save_file(tensors(load_file(file)), file, metadata)

    return damage


def other(**parameters):
    """Resume another fit than the one that was begun."""
    return lambda at: tiny(**parameters).fit(wide(), resume=begun(at / "run"))


def save_over(folder, **how):
    fitted().save(folder / "m")
    fitted().save(folder / "m", **how)


def save_into_file(folder):
    (folder / "m").write_text("mine")
    fitted().save(folder / "m")


WRITING = [
    Case(
        "save over a model",
        save_over,
        OutputExistsError,
        ("The folder '…/m' holds a model already. Pass overwrite=True to replace it."),
    ),
    Case(
        "save over a file",
        save_into_file,
        OUTPUT,
        (
            "'…/m' cannot be written: File exists. Free space, change permissions, or name another "
            "path."
        ),
    ),
    Case(
        "save below a file",
        lambda at: ((at / "f").write_text(""), fitted().save(at / "f" / "m")),
        OUTPUT,
        (
            "'…/f/m' cannot be written: Not a directory. Free space, change permissions, or name "
            "another path."
        ),
    ),
    Case(
        "save to a number",
        lambda at: fitted().save(5),
        TypeError,
        "The 'path' argument must be a str or Path. Got 5 instead.",
    ),
    Case(
        "save to a name too long",
        lambda at: fitted().save(at / ("x" * 300)),
        OUTPUT,
        (
            "'…' cannot be written: File name too long. Free space, change permissions, or name "
            "another path."
        ),
    ),
    Case(
        "save an array as a parameter",
        lambda at: tiny(share_segmentation=True).fit(wide()).set_params(loss=object()).save(at),
        PARAMETER,
        (
            "'config.parameters.loss' is <object object at …>, which cannot be saved. Set it to a "
            "number, a string or a list before saving."
        ),
    ),
    Case(
        "checkpoint over a checkpoint",
        lambda at: tiny().fit(wide(), checkpoint=begun(at)),
        OutputExistsError,
        (
            "The folder '…' holds a checkpoint already. Pass resume=... to continue from it, or "
            "delete the folder."
        ),
    ),
    Case(
        "checkpoint into a file",
        lambda at: ((at / "f").write_text(""), tiny().fit(wide(), checkpoint=at / "f")),
        OUTPUT,
        (
            "'…/f' cannot be written: File exists. Free space, change permissions, or name another "
            "path."
        ),
    ),
    Case(
        "resume from nothing",
        lambda at: tiny().fit(wide(), resume=at),
        MODEL,
        (
            "Resuming needs the folder that fit(checkpoint=...) wrote to, but there is no "
            "'train.safetensors' in '…'. Pass checkpoint=... to begin."
        ),
    ),
    Case(
        "resume with other data",
        lambda at: tiny().fit(wide() * 2, resume=begun(at)),
        PARAMETER,
        (
            "A fit must be resumed with the data and settings that it began with. Since the "
            "checkpoint in '…', the data have changed. Restore the data and settings, or begin a "
            "new fit in another folder."
        ),
    ),
    Case(
        "resume with other settings",
        other(patcher=FixedPatcher(6), loss="mse"),
        PARAMETER,
        (
            "A fit must be resumed with the data and settings that it began with. Since the "
            "checkpoint in '…/run', patcher was {'name': 'fixed', 'parameters': "
            "{'compression_rate': None, 'patch_length': 4, 'stride': None}} and is {'name': "
            "'fixed', 'parameters': "
            "{'compression_rate': None, 'patch_length': 6, 'stride': None}}; loss was 'mae' and is "
            "'mse'. Restore the data and settings, or begin a new fit in another folder."
        ),
    ),
    Case(
        "resume another backbone",
        other(backbone=TransformerBackbone(16, 1, 2)),
        PARAMETER,
        (
            "A fit must be resumed with the data and settings that it began with. Since the "
            "checkpoint in '…/run', backbone was {'name': 'transformer', 'parameters': {'causal': "
            "False, 'd_ff': None, 'd_model': 8, 'dropout': 0.1, 'num_heads': 2, 'num_layers': 1}} "
            "and is {'name': 'transformer', 'parameters': {'causal': False, 'd_ff': None, "
            "'d_model': 16, 'dropout': 0.1, 'num_heads': 2, 'num_layers': 1}}. Restore the data "
            "and settings, or begin a new fit in another folder."
        ),
    ),
    resumed(
        "checkpoint cut",
        lambda f: f.write_bytes(f.read_bytes()[:-40]),
        MODEL,
        (
            "'…/run/train.safetensors' is damaged or not a checkpoint (…). Delete the folder "
            "'…/run' and train from the start."
        ),
    ),
    resumed(
        "checkpoint of nothing",
        lambda f: f.write_bytes(b""),
        MODEL,
        (
            "'…/run/train.safetensors' is damaged or not a checkpoint (…). Delete the folder "
            "'…/run' and train from the start."
        ),
    ),
    resumed(
        "checkpoint is a pickle",
        lambda f: f.write_bytes(pickle.dumps({})),
        MODEL,
        (
            "'…/run/train.safetensors' is damaged or not a checkpoint (…). Delete the folder "
            "'…/run' and train from the start."
        ),
    ),
    resumed(
        "checkpoint without header",
        lambda f: save_file({"a": torch.ones(1)}, f),
        MODEL,
        (
            "'…/run/train.safetensors' is not a checkpoint: its header lacks a format or an "
            "identity. Pass the folder that fit(checkpoint=...) wrote to."
        ),
    ),
    resumed(
        "checkpoint header of text",
        lambda f: save_file({"a": torch.ones(1)}, f, {"adaptivepatch": "{"}),
        MODEL,
        (
            "'…/run/train.safetensors' is damaged or not a checkpoint (…). Delete the folder "
            "'…/run' and train from the start."
        ),
    ),
    resumed(
        "checkpoint header is a list",
        lambda f: save_file({"a": torch.ones(1)}, f, {"adaptivepatch": "[]"}),
        MODEL,
        (
            "'…/run/train.safetensors' is not a checkpoint: its header lacks a format or an "
            "identity. Pass the folder that fit(checkpoint=...) wrote to."
        ),
    ),
    resumed(
        "newer checkpoint",
        header(format=99, identity={}),
        MODEL,
        (
            "'…/run/train.safetensors' is a checkpoint of format 99, but this version reads only "
            "formats up to 1. Resume with the version that wrote it, or train from the start."
        ),
    ),
    resumed(
        "identity of text",
        header(format=1, identity="mine"),
        MODEL,
        (
            "'…/run/train.safetensors' is not a checkpoint: its header lacks a format or an "
            "identity. Pass the folder that fit(checkpoint=...) wrote to."
        ),
    ),
    resumed(
        "checkpoint of other weights",
        edited(lambda t: {k: v + 1 if k.startswith("network.head") else v for k, v in t.items()}),
        MODEL,
        (
            "'…/run/train.safetensors' was changed since it was written: its content does not have "
            "the digest that its header states. Delete the folder '…/run' and train from the start."
        ),
    ),
    resumed(
        "checkpoint of other steps",
        edited(facts=lambda f: f["record"].update(num_steps=0)),
        MODEL,
        (
            "'…/run/train.safetensors' was changed since it was written: its content does not have "
            "the digest that its header states. Delete the folder '…/run' and train from the start."
        ),
    ),
    resumed(
        "earlier checkpoint without a network",
        edited(lambda t: {k: v for k, v in t.items() if "network" not in k}, has_digest=False),
        MODEL,
        (
            "'…/run/train.safetensors' does not fit this run: network lacks '…'. The file is "
            "damaged or was changed. Train from the start."
        ),
    ),
    resumed(
        "earlier checkpoint of other shapes",
        edited(
            lambda t: {k: v[:1].clone() if "exp_avg_sq" in k else v for k, v in t.items()},
            has_digest=False,
        ),
        MODEL,
        (
            "'…/run/train.safetensors' does not fit this run: optimizer.0 has 'exp_avg_sq' of "
            "(torch.float32, …), not (torch.float32, …). The file is damaged or was changed. Train "
            "from the start."
        ),
    ),
    resumed(
        "earlier checkpoint of other types",
        edited(
            lambda t: {k: v.double() if "head" in k else v for k, v in t.items()}, has_digest=False
        ),
        MODEL,
        (
            "'…/run/train.safetensors' does not fit this run: network has 'head.…' of "
            "(torch.float64, …), not (torch.float32, …). The file is damaged or was changed. Train "
            "from the start."
        ),
    ),
    resumed(
        "earlier checkpoint of another optimizer",
        edited(lambda t: t | {"optimizer.x.step": torch.ones(())}, has_digest=False),
        MODEL,
        (
            "'…/run/train.safetensors' does not fit this run: optimizer has the unknown tensor "
            "'x.step'. The file is damaged or was changed. Train from the start."
        ),
    ),
    resumed(
        "earlier checkpoint of an odd record",
        edited(facts=lambda f: f["record"].update(best_loss="low"), has_digest=False),
        MODEL,
        (
            "'…/run/train.safetensors' does not fit this run: header.record.best_loss must be a "
            "number, not 'low'. The file is damaged or was changed. Train from the start."
        ),
    ),
    resumed(
        "earlier checkpoint of no position",
        edited(facts=lambda f: f.pop("position"), has_digest=False),
        MODEL,
        (
            "'…/run/train.safetensors' does not fit this run: header lacks 'position'. The file is "
            "damaged or was changed. Train from the start."
        ),
    ),
    Case(
        "init from nothing",
        lambda at: tiny().fit(wide(), init=at),
        MODEL,
        (
            "'…/config.json' does not exist. Pass the folder of a saved model, which holds "
            "config.json and model.safetensors."
        ),
    ),
]


@parametrized(WRITING)
def test_what_cannot_be_written_or_resumed_is_refused(case, tmp_path):
    assert_refused(case, tmp_path)


BROKEN = [
    ("disk full while saving", model_folder, "save_file", full_disk),
    ("disk full in safetensors", model_folder, "save_file", full_safetensors),
    ("no permission", files.tempfile, "mkstemp", denied),
    ("read-only disk", files.tempfile, "mkstemp", read_only),
    ("disk full while flushing", files.os, "fsync", full_disk),
]


@pytest.mark.parametrize(
    ("name", "module", "function", "failure"), BROKEN, ids=[b[0] for b in BROKEN]
)
def test_a_failed_save_leaves_the_model_that_was_there(
    name, module, function, failure, tmp_path, monkeypatch
):
    fitted().save(tmp_path / "m")
    before = contents(tmp_path)
    monkeypatch.setattr(module, function, failure)
    case = Case(
        name,
        lambda: fitted().save(tmp_path / "m", overwrite=True),
        OUTPUT,
        (
            f"…model.safetensors' cannot be written: {SYSTEM[name]}. Free space, change "
            "permissions, or name another path."
        ),
    )
    assert_refused(case)
    assert contents(tmp_path).keys() == before.keys()
    assert {k: v[1] for k, v in contents(tmp_path).items()} == {k: v[1] for k, v in before.items()}


SYSTEM = {
    "disk full while saving": "No space left on device",
    "disk full in safetensors": (
        "Error while serializing: I/O error: No space left on device (os error 28)"
    ),
    "no permission": "Permission denied",
    "read-only disk": "Read-only file system",
    "disk full while flushing": "No space left on device",
}


@pytest.mark.parametrize("failure", [full_disk, full_safetensors])
def test_a_full_disk_refuses_initial_weights(failure, tmp_path, monkeypatch):
    model = fitted()
    monkeypatch.setattr(model_folder, "save_file", failure)
    with pytest.raises(OutputError, match=r"init\.safetensors' cannot be written: .*No space left"):
        tiny().fit(wide(), checkpoint=tmp_path, init=model)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failure", [full_disk, full_safetensors])
def test_a_full_disk_ends_a_checkpointed_fit(failure, tmp_path, monkeypatch):
    monkeypatch.setattr(model_folder, "save_file", failure)
    case = Case(
        "",
        lambda: tiny().fit(wide(), checkpoint=tmp_path),
        OUTPUT,
        (
            "…train.safetensors' cannot be written: …No space left on device…. Free space, change "
            "permissions, or name another path."
        ),
    )
    assert_refused(case)
    assert list(tmp_path.iterdir()) == []
