"""Write ``docs/errors.md``: every message of the package, read from its source.

    python tools/generate_errors.py

``tests/test_docs.py`` compares the file with what this writes.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "adaptivepatch"
TARGET = ROOT / "docs" / "errors.md"

BUILT_IN = {
    "AttributeError": "A name that this package does not have.",
    "FileExistsError": "Something would be overwritten.",
    "OSError": "A file or a stream cannot be read or written.",
    "TypeError": "An argument of the wrong kind.",
    "ValueError": "A value outside what is documented.",
    "UserWarning": "Nothing is wrong enough to stop, but you should know.",
}


class Message(NamedTuple):
    """One place that raises or warns."""

    kind: str
    module: str
    text: str


def messages() -> list[Message]:
    """Return every message of the package, in the order of the source."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        templates = _functions_that_return_text(tree)
        for kind, argument in _raised(tree):
            text = _text(argument, templates)
            if text and re.search(r"\s", text):
                found.append(Message(kind, module, text))
    return found


def _raised(tree: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Yield the class and the message of every error that is made, and of every warning."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args:
            name = ast.unparse(node.func)
            if name == "warnings.warn":
                yield "UserWarning", node.args[0]
            elif name.endswith("Error"):
                yield name, node.args[0]


def _functions_that_return_text(tree: ast.AST) -> dict[str, ast.expr]:
    """Return the f-string that a function of this module ends with, by the function's name."""
    texts: dict[str, ast.expr] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            last = node.body[-1]
            if isinstance(last, ast.Return) and isinstance(last.value, ast.JoinedStr):
                texts[node.name] = last.value
    return texts


def _text(node: ast.expr, templates: dict[str, ast.expr]) -> str:
    """Return a message with its values as <names>."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_text(part, templates) for part in parts)
        case ast.FormattedValue(value=ast.Call(func=ast.Name(id="suggest"))):
            return " Did you mean <name>?"
        case ast.FormattedValue(value=value):
            return f"<{_short(value)}>"
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _text(left, templates) + _text(right, templates)
        case ast.IfExp(body=body, orelse=other):
            return f"{_text(body, templates)} (or: {_text(other, templates)})"
        case ast.Call(func=ast.Name(id=name)) if name in templates:
            return _text(templates[name], templates)
        case _:
            return ""


def _short(node: ast.expr) -> str:
    """Return a readable name for an expression."""
    match node:
        case ast.Constant(value=value):
            return str(value)
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.strip("_")
        case ast.Call(func=function, args=arguments):
            named = _short(function)
            plain = named in {"str", "int", "float", "repr", "list", "sorted", "len", "tuple"}
            return _short(arguments[0]) if plain and arguments else named
        case ast.Subscript(value=value) | ast.Starred(value=value):
            return _short(value)
        case ast.IfExp(body=body):
            return _short(body)
        case _:
            return "value"


def cause_and_remedy(text: str) -> tuple[str, str]:
    """Split a message into what was required and found, and the last sentence, the remedy."""
    sentences = re.split(r"(?<=[.?!])\s+(?=[A-Z<\"'])", " ".join(text.split()))
    if len(sentences) == 1:
        return sentences[0], ""
    return " ".join(sentences[:-1]), sentences[-1]


def descriptions() -> dict[str, str]:
    """Return what each error class says of itself."""
    found = dict(BUILT_IN)
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and node.name.endswith("Error"):
                found[node.name] = (ast.get_docstring(node) or "").partition("\n")[0]
    return found


def render() -> str:
    """Return the document."""
    by_kind: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for message in messages():
        texts = by_kind[message.kind][message.module]
        if message.text not in texts:
            texts.append(message.text)
    about = descriptions()
    lines = [
        "# Errors and warnings",
        "",
        "Every message says what is required, what was found, and what to do. Errors that this",
        "package raises on purpose are `AdaptivePatchError`s, most of them also a `ValueError`; on",
        "the command line each becomes one line and exit status 2. `<names>` stand for values.",
        "",
        "Written by `python tools/generate_errors.py` from the source; do not edit.",
    ]
    for kind in sorted(by_kind):
        lines += ["", f"## {kind}", "", about.get(kind, "")]
        for module in sorted(by_kind[kind]):
            lines += ["", f"`{module}`", "", "| required and found | remedy |", "| --- | --- |"]
            for text in by_kind[kind][module]:
                cause, remedy = (_cell(part) for part in cause_and_remedy(text))
                lines.append(f"| {cause} | {remedy} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    escaped = text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
    return escaped.replace("_", "\\_")


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
