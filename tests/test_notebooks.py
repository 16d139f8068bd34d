"""Every notebook runs from top to bottom and ends in an assertion; outputs stay out of git.

By default the cells run in an IPython shell of this process, which costs no start of a kernel; the
slow tests run them in a kernel.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from nbclient import NotebookClient
from traitlets.config import Config

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path):
    notebook = nbformat.read(path, as_version=4)
    return notebook, [cell for cell in notebook.cells if cell.cell_type == "code"]


@every_notebook
def test_outputs_are_stripped(path):
    _, cells = code_cells(path)
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)


@every_notebook
def test_the_last_cell_asserts_something(path):
    assert "assert " in code_cells(path)[1][-1].source


@every_notebook
@pytest.mark.timeout(900)
def test_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.setenv("ADAPTIVEPATCH_SMOKE", "1")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    modules = set(sys.modules)
    shell = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))
    try:
        for cell in code_cells(path)[1]:
            shell.run_cell(cell.source).raise_error()
    finally:
        for name in set(sys.modules) - modules:  # those that the notebook wrote
            file = getattr(sys.modules[name], "__file__", None)
            if file is not None and Path(file).parent == tmp_path:
                del sys.modules[name]


@pytest.mark.slow
@every_notebook
@pytest.mark.timeout(900)
def test_notebook_runs_in_a_kernel(path, tmp_path, monkeypatch):
    monkeypatch.setenv("ADAPTIVEPATCH_SMOKE", "1")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    notebook, _ = code_cells(path)
    client = NotebookClient(notebook, timeout=800, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()  # raises CellExecutionError, with the cell, where one fails
    assert all(
        cell.execution_count is not None for cell in notebook.cells if cell.cell_type == "code"
    )
