"""The planted faults still have a place in the package, and the last run of them missed none."""

from __future__ import annotations

import csv
import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def load_tool(monkeypatch):
    path = ROOT / "tools" / "plant_faults.py"
    spec = importlib.util.spec_from_file_location("plant_faults", path)
    tool = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "plant_faults", tool)
    spec.loader.exec_module(tool)
    return tool


def test_every_fault_has_a_place_and_was_noticed(monkeypatch):
    faults = load_tool(monkeypatch).FAULTS
    package = ROOT / "adaptivepatch"
    places = {f.name: (package / f.file).read_text(encoding="utf-8").count(f.text) for f in faults}
    assert [name for name, count in places.items() if count != 1] == []
    assert all((ROOT / "tests" / fault.hints[0]).is_file() for fault in faults)
    with (ROOT / "tests" / "planted_faults.csv").open(encoding="utf-8") as file:
        caught = {row["fault"]: row["caught"] for row in csv.DictReader(file)}
    assert caught == dict.fromkeys(places, "yes")
