"""Kills of writers, in a process of its own: kind of save, number of kills, folder to work in.

The process forks a child for every save, so that torch is imported once. Even kills happen at a
random audited event of the child (opening, renaming or removing a file of the folder), odd ones
from outside after a random time. It prints a list of what the folder was after each kill: "old",
"new" or "refused".
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
import warnings
from pathlib import Path

from adaptivepatch import Forecaster, ReinPatcher, load_patcher
from adaptivepatch.cli import main
from adaptivepatch.cli.about import read_about
from adaptivepatch.errors import InvalidModelError
from tests.bad_inputs.helpers import tiny, wide

EVENTS = ("open", "os.rename", "os.remove")


def in_child(action, folder, die_at=None, after=None) -> tuple[int, int, float]:
    """Run an action in a child; return its status, its number of events, and its seconds."""
    reader, writer = os.pipe()
    began, child = time.perf_counter(), os.fork()
    if child == 0:
        count = 0

        def watch(event, arguments):
            nonlocal count
            if event in EVENTS and str(arguments[0]).startswith(str(folder)):
                count += 1
                if count == die_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        status = 1
        try:
            sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115
            action(folder)
            status = 0
        except SystemExit as end:  # of the command line
            status = end.code or 0
        finally:
            os.write(writer, str(count).encode())
            os._exit(status)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    os.close(writer)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    count = os.read(reader, 20)
    os.close(reader)
    return status, int(count or 0), time.perf_counter() - began


def fit(frame, file, *options):
    """Return a function that fits a model of a frame on the command line."""
    frame.rename_axis("date").to_csv(file)
    tiny_options = (
        "--horizon 4 --context-length 12 --max-steps 2 --device cpu --backbone transformer --set "
        "backbone__d_model=8 --set backbone__num_layers=1 --set backbone__num_heads=2 --force"
    )
    arguments = ["fit", str(file), *tiny_options.split(), *options]
    return lambda folder: main([*arguments, "--model", str(folder)])


def actions(kind, place):
    """Return two functions that save different things into a folder, and one that reads it."""
    one, other = wide(), (wide(40) * 7 + 100).rename(columns={"a": "x", "b": "y"})
    if kind == "forecaster":
        models = [tiny().fit(frame) for frame in (one, other)]
        saves = [lambda at, m=model: m.save(at, overwrite=True) for model in models]
        return *saves, lambda at: Forecaster.load(at).predict().to_json()
    if kind == "patcher":
        patchers = [ReinPatcher(4, width=width) for width in (8, 16)]
        saves = [
            lambda at, p=patcher: p.save_pretrained(at, overwrite=True) for patcher in patchers
        ]
        return *saves, lambda at: str(
            [value.tolist() for value in load_patcher(at).state_dict().values()]
        )
    saves = [
        fit(one, place / "one.csv", "--date-format", "%Y-%m-%d %H:%M:%S"),
        fit(other, place / "other.csv"),
    ]
    return (
        *saves,
        lambda at: (
            Forecaster.load(at).predict().to_json() + str((read_about(at) or {}).get("date_format"))
        ),
    )


def run(kind: str, kills: int, place: Path) -> list[str]:
    """Return what the folder was after every kill."""
    save_old, save_new, read = actions(kind, place)
    old, new, folder = place / "old", place / "new", place / "folder"
    for save, at in ((save_old, old), (save_new, new)):
        assert in_child(save, at)[0] == 0
    known = {read(old): "old", read(new): "new"}
    assert len(known) == 2
    shutil.copytree(old, folder)
    status, events, seconds = in_child(save_new, folder)
    assert (status, known[read(folder)]) == (0, "new")
    assert events > 2
    outcomes, chance = [], random.Random(f"{kind} {kills}")
    for number in range(kills):
        shutil.rmtree(folder)
        shutil.copytree(old, folder)
        if number % 2 == 0:
            status = in_child(save_new, folder, die_at=chance.randint(1, events))[0]
            assert status == -signal.SIGKILL
        else:
            in_child(save_new, folder, after=chance.uniform(0, seconds))
        try:
            outcomes.append(known[read(folder)])
        except InvalidModelError:
            outcomes.append("refused")
        assert in_child(save_new, folder)[0] == 0
        assert known[read(folder)] == "new"
        left = [path.name for path in folder.rglob("*") if path.name.startswith(".")]
        assert not left, left
    return outcomes


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps(run(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))))
