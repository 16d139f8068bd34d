"""Write the table of patchers in ``docs/patchers.md``, read from the registry and the classes.

    python tools/generate_patchers.py

``tests/test_docs.py`` compares the document with what this writes.
"""

from __future__ import annotations

import re
from pathlib import Path

from adaptivepatch.registry import PATCHERS

TARGET = Path(__file__).parents[1] / "docs" / "patchers.md"
PLACE = re.compile(r"(<!-- patchers -->\n).*?(<!-- end -->)", re.DOTALL)

# Attribute of a patcher class by column.
COLUMNS = {
    "what decides": "decides",
    "rate kept": "rate_kept",
    "cost of cutting": "cost",
    "trained by": "trained_by",
    "causality": "causality",
}


def table() -> str:
    """Return a Markdown table with one row for each registered patcher."""
    lines = [["name", "class", *COLUMNS], ["---"] * (2 + len(COLUMNS))]
    for name, cls in PATCHERS.items():
        about = [getattr(cls, attribute).replace("|", "\\|") for attribute in COLUMNS.values()]
        lines.append([f"`{name}`", f"`{cls.__name__}`", *about])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def render(text: str) -> str:
    """Return the document with its table as the code has it now.

    Parameters
    ----------
    text : str
        The document, in which ``<!-- patchers -->`` and ``<!-- end -->`` enclose the table.
    """
    filled, places = PLACE.subn(lambda place: place[1] + table() + place[2], text)
    if places != 1:
        raise SystemExit(f"{TARGET} must mark the table of patchers once. It has {places} marks.")
    return filled


if __name__ == "__main__":
    TARGET.write_text(render(TARGET.read_text(encoding="utf-8")), encoding="utf-8")
