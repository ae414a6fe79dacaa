"""The pages of the documentation: their texts, and their Python, which runs as tests."""

from __future__ import annotations

import ast
import inspect
import re
from asyncio import AbstractEventLoop
from pathlib import Path
from types import CodeType
from typing import Any

ROOT = Path(__file__).parents[1]
PAGES = [str(page.relative_to(ROOT)) for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"))]
SHOWN_URL = "redis://localhost:6379"
FILE = re.compile(r"(?:# |%%writefile )(\w+\.py)\n")  # a block that begins so is saved, not run


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def python_blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text(page), re.MULTILINE | re.DOTALL)


def shown_outputs(page: str) -> list[str]:
    """The texts that stand right behind Python: what it prints."""
    return re.findall(r"^```\n\n```text\n(.*?)^```", text(page), re.MULTILINE | re.DOTALL)


def run_page(page: str, url: str, loop: AbstractEventLoop) -> None:
    """Run the Python of a page, block by block, all in one namespace."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for number, block in enumerate(python_blocks(page), 1):
        source = block.replace(SHOWN_URL, url)
        if file := FILE.match(source):
            Path(file[1]).write_text(source)
            continue
        code = _compiled(source, f"{page}, block {number}")
        awaited = eval(code, namespace)  # noqa: S307 - our own documentation
        if code.co_flags & inspect.CO_COROUTINE:
            loop.run_until_complete(awaited)


def _compiled(source: str, name: str) -> CodeType:
    compiled: CodeType = compile(source, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    return compiled
