"""Write the pictures of ``docs/plots.md``: run its examples, and keep what they draw.

    python tools/generate_pictures.py

The pictures are in ``docs/images``.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def main() -> None:
    """Run all blocks in an empty folder, and copy every picture that they save."""
    code = "".join(BLOCK.findall((DOCS / "plots.md").read_text(encoding="utf-8")))
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        exec(compile(code, "docs/plots.md", "exec"), {})
        for picture in sorted(Path().glob("*.png")):
            shutil.copy(picture, DOCS / "images")
            print(f"docs/images/{picture.name}")
        os.chdir(DOCS)


if __name__ == "__main__":
    main()
