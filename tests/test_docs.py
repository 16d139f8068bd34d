"""Documents are executed: the Python blocks of each run in order, in an empty folder.

A ```text block behind a Python block is what that block prints. A block marked ```python norun
is left out. ``docs/errors.md`` is what its generator writes.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```\s*?$(?:\n*^```text\n(?P<printed>.*?)^```\s*?$)?",
    re.MULTILINE | re.DOTALL,
)


def python_blocks(text):
    """Line of the first statement, code and expected output (or None) of each Python block."""
    return [
        (text.count("\n", 0, match.start("code")) + 1, match["code"], match["printed"])
        for match in BLOCK.finditer(text)
    ]


def test_blocks_are_found_with_their_lines_and_output():
    text = "a\n```python\nx = 1\n```\n```bash\nls\n```\n\n```python\ny\nz\n```\n\n```text\n1\n```\n"
    assert python_blocks(text) == [(3, "x = 1\n", None), (10, "y\nz\n", "1\n")]
    assert python_blocks("```python norun\nx\n```\n") == []


def test_the_main_documents_have_blocks():
    for name in ("README.md", "docs/tour.md", "docs/data.md"):
        assert python_blocks((ROOT / name).read_text(encoding="utf-8")), name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
@pytest.mark.timeout(900)
def test_python_blocks_run_and_print_what_they_say(document, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    namespace = {"__name__": "__main__"}
    for line, code, printed in python_blocks(document.read_text(encoding="utf-8")):
        # Blank lines in front make a traceback name the line of the document.
        program = compile("\n" * (line - 1) + code, str(document), "exec")
        with contextlib.redirect_stdout(io.StringIO()) as screen:
            exec(program, namespace)
        if printed is not None:
            assert screen.getvalue() == printed, f"{document.name}, line {line}"


def test_the_list_of_errors_is_current():
    path = ROOT / "tools" / "generate_errors.py"
    spec = importlib.util.spec_from_file_location("generate_errors", path)
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    current = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert current == generator.render(), "run `make generate`"


def test_the_table_of_patchers_holds_every_patcher():
    from adaptivepatch.registry import PATCHERS

    text = (ROOT / "docs" / "patchers.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \|(.*)\|$", text, flags=re.MULTILINE)
    assert {name: cls for name, cls, _ in rows} == {
        name: cls.__name__ for name, cls in PATCHERS.items()
    }
    for name, _, cells in rows:
        decides, rate, cost, trained, causal = (cell.strip() for cell in cells.split("|"))
        assert decides and rate and cost  # noqa: PT018
        learns = trained.startswith("by ") or trained == "if one is"
        assert learns == (PATCHERS[name].trainable or name == "hierarchical")
        assert causal in ("no", "static", 'with `budget="target"`', '`form="next_patch"`')
