"""Damaged files raise errors of this package, in bounded time and memory, or do no harm.

Every mutation has a number, which determines it. The default run does the first 40 of each kind;
the slow one does 1,000.
"""

from __future__ import annotations

import gzip
import io
import random
import resource
import shutil
import signal
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import yaml

from adaptivepatch import Forecaster, ReinPatcher, bench, load_patcher
from adaptivepatch.bench.task import Run, read_suite
from adaptivepatch.cli.tables import Columns, read_table
from adaptivepatch.errors import AdaptivePatchError
from tests.bad_inputs.helpers import tiny, wide
from tests.fuzz import mutations

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs CPU timers")
LONGEST = 10_000  # characters of a message
SECONDS, GIGABYTE = 10, 1 << 20  # of CPU time; in units of ru_maxrss
EACH = [
    pytest.param(40, id="first"),
    pytest.param(1000, id="many", marks=[pytest.mark.slow, pytest.mark.timeout(3600)]),
]


@contextmanager
def bounded():
    """Raise after 10 s of CPU time, or if the process has grown by more than 1 GB."""

    def stop(*_):
        raise TimeoutError(f"more than {SECONDS} s")

    earlier = signal.signal(signal.SIGPROF, stop)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, earlier)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < GIGABYTE, f"{grown / GIGABYTE:.1f} GB more"


def run(kind, count, attempt):
    """Call ``attempt(random)`` once per mutation; only errors of the package are allowed.

    Returns
    -------
    int
        Number of mutations that were accepted.
    """
    accepted = 0
    for number in range(count):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                with bounded():
                    attempt(random.Random(f"{kind} {number}"))
                accepted += 1
            except (AdaptivePatchError, FileExistsError) as error:
                length = len(str(error))
                if length > LONGEST:
                    raise AssertionError(f"{kind} {number}: {length} characters") from error
            except (Exception, SystemExit) as error:
                raise AssertionError(f"{kind} {number}: {type(error).__name__}: {error}") from error
    return accepted


def fresh(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target


def change(file: Path, mutate, chance) -> None:
    file.write_bytes(mutate(file.read_bytes(), chance))


def weights_of(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    assert all(found[name].equal(wanted[name]) for name in wanted), "other weights in silence"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    fitted = tiny().fit(wide())
    fitted.save(folder / "m")
    return folder / "m", weights_of(fitted.network_), fitted.predict()


@pytest.mark.parametrize("count", EACH)
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_model_folder(name, count, model, tmp_path):
    source, weights, forecast = model
    is_config = name == "config.json"
    mutate = mutations.of_json_text if is_config else mutations.of_safetensors

    def attempt(chance):
        folder = fresh(source, tmp_path / "m")
        change(folder / name, mutate, chance)
        loaded = Forecaster.load(folder)
        assert_same(weights_of(loaded.network_), weights)
        predicted = loaded.predict()  # the values depend on the settings in the config
        assert is_config or predicted.equals(forecast)

    run(name, count, attempt)


@pytest.mark.parametrize("count", EACH)
def test_a_model_folder_of_an_earlier_version(count, model, tmp_path):
    def attempt(chance):
        folder = fresh(model[0], tmp_path / "m")
        config = folder / "config.json"
        config.write_bytes(mutations.without_digest(config.read_bytes()))
        change(folder / "model.safetensors", mutations.of_safetensors, chance)
        Forecaster.load(folder).predict()

    assert run("earlier model", count, attempt) < count


@pytest.mark.parametrize("count", EACH)
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "README.md"])
def test_a_patcher_folder(name, count, tmp_path):
    patcher = ReinPatcher(4, width=8)
    patcher.save_pretrained(tmp_path / "p")
    weights = weights_of(patcher)
    mutate = {
        "config.json": mutations.of_json_text,
        "model.safetensors": mutations.of_safetensors,
        "README.md": mutations.of_bytes,
    }[name]

    def attempt(chance):
        folder = fresh(tmp_path / "p", tmp_path / "copy")
        change(folder / name, mutate, chance)
        assert_same(weights_of(load_patcher(folder)), weights)

    run(f"patcher {name}", count, attempt)


class Stop(Exception):
    """Ends a fit from its callback."""


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """Folders of a fit that was stopped, and the weights of the whole one."""
    folder = tmp_path_factory.mktemp("run")

    def stop(step, metrics):
        raise Stop

    settings = {"trainer__max_steps": 3, "trainer__validate_every": 2}
    initial = tiny().fit(wide())
    with pytest.raises(Stop):
        tiny().set_params(**settings).fit(
            wide(), checkpoint=folder / "r", callback=stop, init=initial
        )
    whole = tiny().set_params(**settings).fit(wide(), init=initial)
    return folder / "r", settings, weights_of(whole.network_)


@pytest.mark.parametrize("count", EACH)
@pytest.mark.parametrize("name", ["train.safetensors", "init.safetensors"])
@pytest.mark.parametrize("has_digest", [True, False], ids=["now", "earlier"])
def test_a_checkpoint(name, has_digest, count, begun, tmp_path):
    source, settings, weights = begun

    def attempt(chance):
        folder = fresh(source, tmp_path / "r")
        if not has_digest:
            train = folder / "train.safetensors"
            train.write_bytes(mutations.without_digest(train.read_bytes()))
        change(folder / name, mutations.of_safetensors, chance)
        resumed = tiny().set_params(**settings).fit(wide(), resume=folder)
        if has_digest:
            assert_same(weights_of(resumed.network_), weights)

    run(f"{name} {has_digest}", count, attempt)


def csv_of(frame):
    return frame.rename_axis("date").to_csv().encode()


def parquet_of(frame):
    pytest.importorskip("pyarrow")
    buffer = io.BytesIO()
    frame.rename_axis("date").reset_index().to_parquet(buffer, index=False)
    return buffer.getvalue()


TABLES = {
    "csv": csv_of,
    "csv.gz": lambda frame: gzip.compress(csv_of(frame), mtime=0),
    "parquet": parquet_of,
}


@pytest.mark.parametrize("count", EACH)
@pytest.mark.parametrize("ending", TABLES)
def test_a_table(ending, count, tmp_path, capsys):
    content, file = TABLES[ending](wide()), tmp_path / f"table.{ending}"

    def attempt(chance):
        file.write_bytes(mutations.of_bytes(content, chance))
        table = read_table(file, Columns())
        assert isinstance(table.frame, pd.DataFrame)

    run(ending, count, attempt)


SUITES = Path(bench.__file__).parent / "suites"


@pytest.mark.parametrize("count", EACH)
def test_a_suite(count, tmp_path):
    contents = [path.read_bytes() for path in sorted(SUITES.glob("*.yaml"))]
    file = tmp_path / "suite.yaml"

    def attempt(chance):
        content = chance.choice(contents)
        if chance.random() < 0.5:
            file.write_bytes(mutations.of_bytes(content, chance))
        else:
            changed = mutations.of_json(yaml.safe_load(content), chance)
            try:
                file.write_text(yaml.safe_dump(changed), encoding="utf-8")
            except RecursionError:  # YAML of this depth is written by hand
                file.write_text("[" * 5000, encoding="utf-8")
        assert all(isinstance(one, Run) for one in read_suite(file))

    assert 0 < run("suite", count, attempt) < count
