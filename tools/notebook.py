"""Makes a notebook of the tutorial: `make notebook`.

    python -m tools.notebook

The text and the Python of docs/tutorial.md, up to where a server is needed, become its cells; then
they are run, so that it shows what they print. A block that begins with a file's name is saved.
"""

from __future__ import annotations

import json
import posixpath
import re
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE, NOTEBOOK = "docs/tutorial.md", "examples/persistence.ipynb"
END = "## On a server of your own"

_BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n.*?^```\n)?", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<=\]\()(?!\w+:)([^)#]*)")
_FILE = re.compile(r"# (\w+\.py)\n")


def notebook() -> dict[str, Any]:
    """The notebook, not run yet."""
    page = (ROOT / PAGE).read_text("utf-8").partition(END)[0]
    return {
        "cells": [
            _cell(number, part) for number, part in enumerate(_BLOCK.split(page)) if part.strip()
        ],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _cell(number: int, part: str) -> dict[str, Any]:
    """What is around blocks and what is in them take turns."""
    cell = {"id": f"cell-{number}", "metadata": {}}
    if number % 2:
        source = _FILE.sub(r"%%writefile \1\n", part.strip(), count=1)
        code = {"execution_count": None, "outputs": list[Any]()}
        return {"cell_type": "code", **cell, **code, "source": _lines(source)}
    return {"cell_type": "markdown", **cell, "source": _lines(_LINK.sub(_turned, part.strip()))}


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def _turned(link: re.Match[str]) -> str:
    """A link of the page, as it is to be in the notebook."""
    target = posixpath.join(posixpath.dirname(PAGE), link[1]) if link[1] else PAGE
    return posixpath.relpath(target, posixpath.dirname(NOTEBOOK))


def main() -> None:
    """Make the notebook, run it in an empty directory, and write it."""
    import nbclient  # noqa: PLC0415 - tests import this file, where it is not installed
    import nbformat  # noqa: PLC0415 - likewise

    made = nbformat.reads(json.dumps(notebook()), as_version=4)
    with tempfile.TemporaryDirectory() as directory:
        resources = {"metadata": {"path": directory}}
        nbclient.NotebookClient(made, resources=resources, record_timing=False).execute()
    del made.metadata.language_info["version"]  # which Python it was run by is of no interest
    nbformat.write(made, ROOT / NOTEBOOK)
    print(f"{NOTEBOOK} is written.")


if __name__ == "__main__":
    main()
