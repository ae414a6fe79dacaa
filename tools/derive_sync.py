"""Derive the synchronous half of the package from the asynchronous one.

    python -m tools.derive_sync            write the derived files (`make derive`)
    python -m tools.derive_sync --check    list the derived files that are out of date (`make lint`)

Each file in a folder `_async` has a derived twin in the folder `_sync` next to it, and `aio.py` has
`saver.py`. Three things happen to the text of a file:

1. `async` and `await` go, and so do the calls that only make sense with them (`UNWRAPPED`).
2. Names are replaced, by the tables below: in code, in docstrings and in comments.
3. ruff sorts the imports, removes those that are no longer used, and formats the result.

Each saver also has the names of the other half: `await RedisSaver.aget_tuple(...)` works as well.
The files in `_twins` that add them are made of the signatures in the asynchronous half.

If a sentence in a docstring is wrong in the other half, word it so that it fits both. Where that
does not read well, add the two sentences to `PHRASES`. Code that does not fit both halves belongs
in a file of its own, written by hand for each.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path
from token import COMMENT, ENDMARKER, NAME, STRING, tok_name
from tokenize import generate_tokens
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "langgraph_checkpoint_redis"

# The public methods whose name begins with an `a` in the asynchronous half.
METHODS = (
    *("setup", "close"),
    *("get_tuple", "list", "put", "put_writes", "get_delta_channel_history"),
    *("delete_thread", "delete_for_runs", "copy_thread", "prune"),
    *("set_ttl", "pin", "unpin", "lease"),
    *("list_threads", "thread_info", "stats", "prune_threads"),
    *("verify", "repair", "reencrypt"),
)
# The methods that a saver does not have under the name of the other half.
ASYNC_ONLY = {"aset_ttl", "apin", "aunpin", "alease"}  # not in `RedisSaver`
NOT_IN_SYNC_SAVER = {*ASYNC_ONLY, "asetup", "aclose"}

NAMES = {
    **{f"a{name}": name for name in METHODS},
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "asynccontextmanager": "contextmanager",
    # Types
    "AsyncIterator": "Iterator",
    # Classes
    "AsyncRedisSaver": "RedisSaver",
    "AsyncDriver": "Driver",
    "AsyncOpenDriver": "OpenDriver",
    "AsyncAdminMethods": "AdminMethods",
    "AsyncLease": "Lease",
    "AsyncLink": "Link",
    "AsyncHeldClient": "HeldClient",
    "AsyncHeldCluster": "HeldCluster",
    "AsyncClientLink": "ClientLink",
    "AsyncServersLink": "ServersLink",
    "AsyncClusterLink": "ClusterLink",
    "SyncNames": "AsyncNames",
    "AsyncSentinels": "Sentinels",
    # Modules
    "_async": "_sync",
    "sync_names": "async_names",
}

# Several names in a row.
SEQUENCES = {
    ("import", "asyncio"): "import time",
    ("asyncio", ".", "sleep"): "time.sleep",
    ("redis", ".", "asyncio"): "redis",
    ("langgraph_checkpoint_redis", ".", "aio"): "langgraph_checkpoint_redis.saver",
    ("_transport", ".", "loops"): "_transport.sync_own_links",
    ("_transport", ".", "tasks"): "_transport.threads",
    ("_is_asynchronous", "=", "True"): "_is_asynchronous = False",
}

# In `await CALL(work)`, what remains is `work`; of `to_thread(function, argument)` it is the call.
UNWRAPPED = {("shielded",), ("self", ".", "_finished")}
TO_THREAD = ("asyncio", ".", "to_thread")

# Words in docstrings, comments and error texts that are not names.
PHRASES = {
    "in an `async with` block": "in a `with` block",
    "async with": "with",
    "`await lease()`": "`lease()`",
    ", for graphs that are awaited": "",
    "tasks, event loops and threads": "threads and tasks",
    "synchronous methods are for threads without an event loop. Where one is running, they raise "
    "`EventLoopError`.": "asynchronous methods call the synchronous ones in worker threads.",
    "`_transport/loops.py`": "`_transport/sync_own_links.py`",
    "`_transport/tasks.py`": "`_transport/threads.py`",
    "`_admin/_async/methods.py`": "`_admin/_sync/methods.py`",
}


# What ruff puts right: imports, and `yield from`.
FIXES = (
    *("check", "--quiet", "--fix-only", "--unsafe-fixes", "--select", "F401,I,UP028"),
    *("--config", "lint.isort.split-on-trailing-comma=false"),
)


class Word(NamedTuple):
    """A token of Python, and the text between it and the one before."""

    gap: str
    kind: int
    text: str


class Derived(NamedTuple):
    """A file to write."""

    path: Path
    text: str


# The synchronous half


def derive(source: str) -> str:
    """Return the synchronous twin of an asynchronous source, not yet formatted."""
    words = _without_waiting([*_split(source)])
    return "".join(word.gap + word.text for word in _renamed(words))


def _split(source: str) -> Iterator[Word]:
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    end = 0
    for token in generate_tokens(StringIO(source).readline):
        if token.type == ENDMARKER:
            continue
        first, last = (starts[line - 1] + column for line, column in (token.start, token.end))
        yield Word(source[end:first], token.type, source[first:last])
        end = last


def _without_waiting(words: list[Word]) -> list[Word]:
    """Remove `async` and `await`, what is called only to be awaited, and what is awaitable."""
    result: list[Word] = []
    while words:
        word, *words = words
        if word.text in ("async", "await") and word.kind == NAME:
            words = [Word(word.gap, *words[0][1:]), *words[1:]]  # in its place
            words = _unwrapped(words) if word.text == "await" else words
        elif word.text in ("Awaitable", "Coroutine") and words[0].text == "[":
            inside, rest = _bracketed(words)
            last = _parts(inside)[-1]
            words = [Word(word.gap, *last[0][1:]), *last[1:], *rest]
        else:
            result.append(word)
    return result


def _unwrapped(words: list[Word]) -> list[Word]:
    """Replace a call that only makes sense in an event loop by the work that is passed to it."""
    for names in (*UNWRAPPED, TO_THREAD):
        if [word.text for word in words[: len(names) + 1]] != [*names, "("]:
            continue
        inside, rest = _bracketed(words[len(names) :])
        first, *others = _parts(inside)
        first = [Word(words[0].gap, *first[0][1:]), *first[1:]]
        if names == TO_THREAD:
            bracket = words[len(names)]
            arguments = [word for part in others for word in (*part, Word("", bracket.kind, ","))]
            if arguments:
                arguments = [Word("", *arguments[0][1:]), *arguments[1:-1]]
            first += [Word("", bracket.kind, "("), *arguments, Word("", bracket.kind, ")")]
        return [*first, *rest]
    return words


def _bracketed(words: list[Word]) -> tuple[list[Word], list[Word]]:
    """Split words that begin with a bracket: those inside of it, and those behind it."""
    depth = 0
    for number, word in enumerate(words):
        depth += (word.text in {"(", "[", "{"}) - (word.text in {")", "]", "}"})
        if not depth:
            return words[1:number], words[number + 1 :]
    raise ValueError("a bracket is never closed")


def _parts(words: list[Word]) -> list[list[Word]]:
    """Split the words inside of a bracket at commas."""
    parts: list[list[Word]] = [[]]
    depth = 0
    for word in words:
        depth += (word.text in {"(", "[", "{"}) - (word.text in {")", "]", "}"})
        if word.text == "," and not depth:
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def _renamed(words: list[Word]) -> Iterator[Word]:
    while words:
        for names, new in SEQUENCES.items():
            if tuple(word.text for word in words[: len(names)]) == names:
                yield Word(words[0].gap, NAME, new)
                words = words[len(names) :]
                break
        else:
            word, *words = words
            if word.kind == NAME:
                yield Word(word.gap, NAME, NAMES.get(word.text, word.text))
            elif word.kind in (STRING, COMMENT) or tok_name[word.kind] == "FSTRING_MIDDLE":
                yield Word(word.gap, word.kind, _reworded(word.text))
            else:
                yield word


_PHRASES = [(re.compile(r"\s+".join(map(re.escape, a.split()))), s) for a, s in PHRASES.items()]
_NAME = re.compile(rf"\b({'|'.join(map(re.escape, NAMES))})\b")


def _reworded(text: str) -> str:
    for asynchronous, synchronous in _PHRASES:
        text = asynchronous.sub(synchronous, text)
    return _NAME.sub(lambda found: NAMES[found[0]], text)


# The names of the other half


class Twins(NamedTuple):
    """How to make the names of the other half of those of the asynchronous half."""

    path: str
    docstring: str
    imports: str
    admin: str
    saver: str
    missing: set[str]
    make: Callable[[ast.AsyncFunctionDef], str]


def _signature(function: ast.AsyncFunctionDef, *, is_async: bool) -> str:
    function = ast.AsyncFunctionDef(**{**dict(ast.iter_fields(function)), "body": []})
    text = ast.unparse(ast.fix_missing_locations(function))
    return text if is_async else derive(text + " ...\n").removesuffix(" ...\n")


def _arguments(function: ast.AsyncFunctionDef) -> str:
    given = function.args
    named = [f"{one.arg}={one.arg}" for one in given.kwonlyargs]
    return ", ".join([*[one.arg for one in given.args[1:]], *named])


def _is_generator(function: ast.AsyncFunctionDef) -> bool:
    return any(isinstance(node, ast.Yield) for node in ast.walk(function))


def _async_name(function: ast.AsyncFunctionDef) -> str:
    """A method of `RedisSaver` that calls its synchronous twin in a worker thread."""
    name, arguments = NAMES[function.name], _arguments(function)
    lines = [_signature(function, is_async=True)]
    if _is_generator(function):
        lines += [
            f'"""Run each step of `{name}` in a worker thread."""',
            f"items = self.{name}({arguments})",
            "while (item := await asyncio.to_thread(next, items, None)) is not None:",
            "    yield item",
        ]
    else:
        lines += [
            f'"""Run `{name}` in a worker thread."""',
            f"return await asyncio.to_thread(self.{name}, {arguments})",
        ]
    return "\n        ".join(lines)


def _sync_name(function: ast.AsyncFunctionDef) -> str:
    """A method of `AsyncRedisSaver` that waits for its asynchronous twin."""
    arguments = _arguments(function)
    more = ", which calls `progress` in the event loop" if "progress=" in arguments else ""
    if not more:
        more = ", in a thread without an event loop"
    lines = [_signature(function, is_async=False)]
    if _is_generator(function):
        lines += [
            f'"""Wait for each step of `{function.name}`, in a thread without an event loop."""',
            f"items = self.{function.name}({arguments})",
            "while (item := self._wait(next_of(items))) is not None:",
            "    yield item",
        ]
    else:
        lines += [
            f'"""Wait for `{function.name}`{more}."""',
            f"return self._wait(self.{function.name}({arguments}))",
        ]
    return "\n        ".join(lines)


ASYNC_NAMES = Twins(
    "_twins/async_names.py",
    "The asynchronous names of `RedisSaver`: each runs its synchronous twin in a worker thread.",
    "import asyncio\n"
    "from langgraph.checkpoint.base import BaseCheckpointSaver\n"
    "from langgraph_checkpoint_redis._admin._sync.methods import AdminMethods",
    "class AsyncAdminNames(AdminMethods):",
    "class AsyncNames(BaseCheckpointSaver[str], AsyncAdminNames):",
    NOT_IN_SYNC_SAVER,
    _async_name,
)
SYNC_NAMES = Twins(
    "_twins/sync_names.py",
    "The synchronous names of `AsyncRedisSaver`: each waits for its asynchronous twin.",
    "from collections.abc import Iterator\n"
    "from langgraph.checkpoint.base import BaseCheckpointSaver\n"
    "from langgraph_checkpoint_redis._admin._async.methods import AsyncAdminMethods\n"
    "from .waiting import Waiting, next_of",
    "class SyncAdminNames(AsyncAdminMethods, Waiting):",
    "class SyncNames(BaseCheckpointSaver[str], SyncAdminNames):",
    ASYNC_ONLY,
    _sync_name,
)


def derive_twins(twins: Twins, saver: str, admin: str) -> str:
    """Return the names of the other half, not yet formatted."""
    imports = [_imports(source) for source in (saver, admin)]
    return "\n".join(
        [
            f'"""{twins.docstring}"""',
            "import asyncio",
            *imports,
            twins.imports,
            f"\n\n{twins.admin}",
            '    """The names of the methods for operators."""\n',
            *_methods(admin, twins),
            f"\n\n{twins.saver}",
            '    """The names of all other methods."""\n',
            *_methods(saver, twins),
            "",
        ]
    )


def _imports(source: str) -> str:
    """Return the imports of a source, which are more than the signatures need."""
    nodes = [node for node in ast.parse(source).body if isinstance(node, ast.ImportFrom)]
    absolute = f"from {PACKAGE.name}."
    lines = [ast.unparse(node).replace("from .", absolute) for node in nodes]
    return "\n".join(line for line in lines if "_twins" not in line)


def _methods(source: str, twins: Twins) -> Iterator[str]:
    for found in ast.walk(ast.parse(source)):
        if isinstance(found, ast.AsyncFunctionDef) and found.name in NAMES.keys() - twins.missing:
            yield f"    {twins.make(found)}\n"


# Files


def derived_files() -> Iterator[Derived]:
    """Make all derived files, formatted."""
    pairs = {PACKAGE / "aio.py": PACKAGE / "saver.py"}
    for source in sorted(PACKAGE.glob("*/_async/*.py")):
        pairs[source] = source.parent.with_name("_sync") / source.name
    for source, path in pairs.items():
        text = source.read_text(encoding="utf-8")
        yield _finished(path, derive(text), [source])
    sources = [PACKAGE / "aio.py", PACKAGE / "_admin/_async/methods.py"]
    texts = [source.read_text(encoding="utf-8") for source in sources]
    for twins in (ASYNC_NAMES, SYNC_NAMES):
        yield _finished(PACKAGE / twins.path, derive_twins(twins, *texts), sources)


def _finished(path: Path, text: str, sources: Sequence[Path]) -> Derived:
    """Say what a file is derived from, and format it."""
    if text:
        names = " and ".join(str(source.relative_to(PACKAGE)) for source in sources)
        head = f"# Derived from {names} by tools/derive_sync.py.\n"
        text = f"{head}# Change the source and run `make derive`.\n\n{text}"
        text = _ruff(_ruff(text, path, *FIXES), path, "format")
    return Derived(path, text)


def _ruff(text: str, path: Path, *command: str) -> str:
    words = (sys.executable, "-m", "ruff", *command, "--stdin-filename", str(path), "-")
    done = subprocess.run(
        words, input=text, capture_output=True, text=True, encoding="utf-8", check=False, cwd=ROOT
    )
    if done.returncode:
        raise ValueError(f"ruff cannot format {path}:\n{done.stderr}")
    return done.stdout


def outdated() -> dict[Path, str | None]:
    """Return the derived files that differ from what they should be; None for one too many."""
    wanted: Mapping[Path, str] = dict(derived_files())
    left_over = {*PACKAGE.glob("*/_sync/*.py")} - wanted.keys()
    differing = {
        path: text
        for path, text in wanted.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    }
    return {**differing, **dict.fromkeys(left_over)}


def main(arguments: Sequence[str]) -> int:
    """Write the derived files, or list those that are out of date."""
    found = outdated()
    for path, text in sorted(found.items()):
        if "--check" in arguments:
            print(f"{path.relative_to(ROOT)} is not what its source makes: run `make derive`")
        elif text is None:
            path.unlink()
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"{path.relative_to(ROOT)} derived")
    return int("--check" in arguments and bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
