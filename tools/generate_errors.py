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

OPERATORS = {
    **{ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//"},
    **{ast.LShift: "<<", ast.RShift: ">>", ast.Mod: "%", ast.Pow: "**"},
}
TOTALS = {"max": "largest of", "min": "smallest of", "sum": "sum of"}
TRANSPARENT = {  # functions and methods whose result is called by what they are applied to
    *("str", "int", "float", "repr", "list", "sorted", "tuple", "max", "min"),
    *("abs", "astype", "ceil", "items", "join", "partition", "replace", "split", "strip"),
    *("tolist", "unique", "values", "and", "as_text", "name", "of_owner", "shorten", "step_name"),
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
        case ast.FormattedValue(value=ast.IfExp(body=ast.Constant(value=""), orelse=other)):
            return _text(other, templates)
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
        case ast.Attribute(value=value, attr="shape" | "dtype" as attribute):
            return f"{attribute} of {_short(value)}"
        case ast.Attribute(value=value, attr="parent"):
            return _short(value) if _short(value) == "self" else f"folder of {_short(value)}"
        case ast.Attribute(value=value, attr="iloc"):
            return _short(value)
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.strip("_")
        case ast.Call():
            return _short_call(node)
        case ast.Subscript(value=ast.Attribute(attr="shape"), slice=ast.Constant(value=axis)):
            return f"number of {'columns' if axis else 'rows'}"
        case ast.Subscript(slice=ast.Constant(value=str(key))):
            return key
        case ast.Subscript(value=value, slice=ast.Slice() | ast.Tuple()) | ast.Starred(value=value):
            return _short(value)
        case ast.Subscript(value=value):
            return _singular(_short(value))
        case ast.GeneratorExp(elt=ast.Call(func=ast.Name(id="len")) as element):
            return _short(element)
        case ast.GeneratorExp(generators=[loop, *_]) | ast.ListComp(generators=[loop, *_]):
            return _short(loop.iter)
        case ast.BinOp(left=left, op=operator, right=right):
            sides = [
                f"({_short(n)})" if isinstance(n, ast.BinOp) else _short(n) for n in (left, right)
            ]
            return f"{sides[0]} {OPERATORS[type(operator)]} {sides[1]}"
        case ast.UnaryOp(operand=value) | ast.BoolOp(values=[*_, value]) | ast.IfExp(body=value):
            return _short(value)
        case _:
            return "value"


def _short_call(call: ast.Call) -> str:
    """Return a readable name for the result of a call: mostly that of what it is applied to."""
    if isinstance(call.func, ast.Name):
        name, subject = call.func.id.strip("_"), call.args[0] if call.args else None
    elif isinstance(call.func, ast.Attribute):
        owner, name = call.func.value, call.func.attr.strip("_")
        inside = isinstance(owner, ast.Constant) or _short(owner) in {"np", "torch", "self"}
        subject = (call.args[0] if call.args else None) if inside else owner
    else:
        return "value"
    match name, subject:
        case "get", _ if isinstance(call.args[0], ast.Constant):
            return _short(call.args[0])
        case "sum", ast.Call() | ast.UnaryOp():
            return "number of values"
        case "len", ast.expr():
            sized = _short(subject)
            return f"{'length' if _singular(sized) == sized else 'number'} of {sized}"
        case (("max" | "min" | "sum"), ast.expr()) if len(call.args) < 2:
            return f"{TOTALS[name]} {_short(subject)}".replace("of number", "number")
        case "shape", ast.expr():
            return f"shape of {_short(subject)}"
        case _, ast.expr() if name in TRANSPARENT:
            return _short(subject)
        case _:
            return name.replace("_", " ")


def _singular(name: str) -> str:
    """Return the name of one element of what a name in the plural stands for."""
    if re.search(r"[^su]s$", name) and not name.endswith(("series", "axis")):
        return name.removesuffix("s")
    return name


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
