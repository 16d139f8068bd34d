"""Write ``adaptivepatch/__init__.pyi``: the public names for type checkers and editors.

    python tools/generate_stub.py

``tests/test_architecture.py`` compares the file with what this writes.
"""

from __future__ import annotations

from pathlib import Path

from adaptivepatch import _MODULE_OF_NAME

LINE_LENGTH = 100
TARGET = Path(__file__).parents[1] / "adaptivepatch" / "__init__.pyi"


def render() -> str:
    """Return the stub."""
    lines = ["# Written by tools/generate_stub.py (`make generate`).", ""]
    modules: dict[str, list[str]] = {}
    for name, module in _MODULE_OF_NAME.items():
        modules.setdefault(module, []).append(name)
    for module, names in sorted(modules.items()):
        for name in sorted(names):
            line = f"from {module} import {name} as {name}"
            split = f"from {module} import (\n    {name} as {name},\n)"
            lines.append(line if len(line) <= LINE_LENGTH else split)
    return "\n".join([*lines, "", "__version__: str", "__all__: list[str]", ""])


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
