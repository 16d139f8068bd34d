"""The README is executed: its Python blocks run in order, in one namespace, in an empty folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[1] / "README.md"
BLOCK = re.compile(r"^```python[^\n]*\n(?P<code>.*?)^```\s*$", re.MULTILINE | re.DOTALL)


def python_blocks(text: str) -> list[tuple[int, str]]:
    """Return the line of the first statement and the code of each ```python block."""
    return [
        (text.count("\n", 0, match.start("code")) + 1, match["code"])
        for match in BLOCK.finditer(text)
    ]


def test_blocks_are_found_with_their_lines():
    text = "a\n```python\nx = 1\n```\n```bash\nls\n```\n\n```python\ny = x\nz = y\n```\n"
    assert python_blocks(text) == [(3, "x = 1\n"), (10, "y = x\nz = y\n")]


@pytest.mark.timeout(300)
def test_readme_python_blocks_run(tmp_path, monkeypatch):
    blocks = python_blocks(README.read_text(encoding="utf-8"))
    assert blocks, "README.md must show at least one ```python block"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    namespace = {"__name__": "__main__"}
    for line, code in blocks:
        # Blank lines in front make a traceback name the line of README.md.
        exec(compile("\n" * (line - 1) + code, str(README), "exec"), namespace)
