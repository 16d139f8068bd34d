"""Documents are executed, what is generated is current, and what they name exists.

The Python blocks of a document run in order, in an empty folder. A ```text block behind a Python
block is what that block prints. A block marked ```python norun is not run.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import json
import re
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
TEXTS = [  # also those without code
    *DOCUMENTS,
    *sorted((ROOT / "docs" / "decisions").glob("*.md")),
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "notebooks").glob("*.ipynb")),
]
BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```\s*?$(?:\n*^```text\n(?P<printed>.*?)^```\s*?$)?",
    re.MULTILINE | re.DOTALL,
)
README_WORDS = 900  # a stranger reads it in five minutes


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
    for name in ("README.md", "CONTRIBUTING.md", "docs/tour.md", "docs/data.md"):
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


# ------------------------------------------------------------------------------------- README


def test_the_readme_is_short_and_shows_a_learned_patcher_first():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    first = re.search(r"^```.*?^```", text, flags=re.MULTILINE | re.DOTALL)
    assert "ReinPatcher" in first[0]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    prose, tables = re.subn(r"<!-- table: .*?<!-- end -->", "", prose, flags=re.DOTALL)
    assert tables == 1
    assert len(prose.split()) <= README_WORDS


def test_numbers_in_the_text_of_the_readme_are_measured():
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    runs = pd.read_csv(ROOT / "benchmarks" / "results" / "planted.csv")
    mean = runs[runs.dataset == "planted_b"].groupby("arm").test_mse.mean()
    learned, fixed, cut, true = (
        f"{mean[arm]:.3f}" for arm in ("forecast_reward", "uniform", "change_points", "oracle")
    )
    assert f"test MSE is {learned}, against {fixed} for fixed patches, {cut} for" in text
    assert f"{true} for the true boundaries" in text


# ---------------------------------------------------------------------------------- generated


def generator(name):
    """A generator from the folder ``tools``."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_list_of_errors_is_current():
    current = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert current == generator("generate_errors").render(), "run `make generate`"


def test_the_table_of_patchers_is_current_and_complete():
    from adaptivepatch.registry import PATCHERS

    current = (ROOT / "docs" / "patchers.md").read_text(encoding="utf-8")
    assert current == generator("generate_patchers").render(current), "run `make generate`"
    rows = re.findall(r"^\| `(\w+)` \| `\w+` \|(.*)\|$", current, flags=re.MULTILINE)
    assert [name for name, _ in rows] == list(PATCHERS)
    for name, cells in rows:
        assert "not stated" not in cells, f"the class of {name!r} lacks an attribute of the table"


# ------------------------------------------------------------------------------- what is named

LINK = re.compile(r"\]\((?!https?:)(?P<path>[^)#\s]*)(?:#(?P<anchor>[^)\s]*))?\)")
FILE = re.compile(
    r"(?<![\w./<~-])(?P<path>(?:[\w.-]+/)+[\w.-]*\.(?:py|pyi|md|ipynb|csv|json|yaml|png))\b"
)
FOLDER = re.compile(r"`(?P<path>(?:adaptivepatch|benchmarks|docs|notebooks|tests|tools)/[\w./-]*)`")
NAME = re.compile(r"(?<![\w./-])adaptivepatch(?:\.\w+)+")
PLACES = [ROOT, ROOT / "adaptivepatch", ROOT / "benchmarks"]
EXAMPLES = {"adaptivepatch/patchers/peaks.py"}  # what a document tells the reader to write
EXAMPLE_NAMES = {"adaptivepatch.PeaksPatcher"}


def text_of(path):
    """The text of a document, or of all cells of a notebook."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    return "\n\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])


def anchors(path):
    """The anchors of the headings of a document, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


every_text = pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)


@every_text
def test_links_lead_somewhere(path):
    broken = []
    for link in LINK.finditer(text_of(path)):
        target = (path.parent / link["path"]).resolve() if link["path"] else path
        if not target.exists() or (link["anchor"] and link["anchor"] not in anchors(target)):
            broken.append(link[0])
    assert broken == []


@every_text
def test_files_that_are_named_exist(path):
    text = text_of(path)
    named = {found["path"] for pattern in (FILE, FOLDER) for found in pattern.finditer(text)}
    named = {name for name in named - EXAMPLES if not name.startswith(("mine/", "path/", ".."))}
    places = [*PLACES, path.parent]
    assert [name for name in sorted(named) if not any((p / name).exists() for p in places)] == []


@every_text
def test_dotted_names_exist(path):
    named = set(NAME.findall(re.sub(r"https?://\S+", "", text_of(path))))
    absent = [name for name in sorted(named - EXAMPLE_NAMES) if not resolves(name)]
    assert absent == []


def resolves(name):
    """Whether a dotted name is a module, or an attribute of one."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        with contextlib.suppress(ImportError):
            found = importlib.import_module(".".join(parts[:end]))
            for attribute in parts[end:]:
                if not hasattr(found, attribute):
                    return False
                found = getattr(found, attribute)
            return True
    return False


@pytest.mark.parametrize(
    ("text", "files", "names"),
    [
        ("see `training/step.py`, docs/data.md.", ["training/step.py", "docs/data.md"], []),
        ("`adaptivepatch.segment(p, df)`", [], ["adaptivepatch.segment"]),
        ("in `adaptivepatch/network.py`", ["adaptivepatch/network.py"], []),
        ("load.csv or demo_output/forecast.txt", [], []),
    ],
)
def test_files_and_names_are_found(text, files, names):
    assert [found["path"] for found in FILE.finditer(text)] == files
    assert NAME.findall(text) == names
