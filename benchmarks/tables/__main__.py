"""Fill the marked tables of documents, in place.

python -m benchmarks.tables README.md docs/*.md benchmarks/README.md
python -m benchmarks.tables my_tables.md --results mine
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.tables.rendering import marked_tables, render

RESULTS = Path(__file__).resolve().parents[1] / "results"


def main(arguments: Sequence[str] | None = None) -> None:
    """Render the documents and print the tables of each."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tables", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("documents", type=Path, nargs="+", help="Markdown files with marked tables")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the CSV files")
    options = parser.parse_args(arguments)
    for document in options.documents:
        text = document.read_text(encoding="utf-8")
        document.write_text(render(text, options.results), encoding="utf-8")
        print(f"{document}: {', '.join(marked_tables(text)) or 'no marked table'}")


if __name__ == "__main__":
    main()
