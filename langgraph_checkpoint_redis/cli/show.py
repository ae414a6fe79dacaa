"""`show`: the timeline of a thread as a tree of namespaces, steps and forks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Annotated, Any

import typer
from rich.text import Text

from langgraph_checkpoint_redis import ThreadInfo

from . import _values
from ._output import Branch, ago, count, emit, out, size, stamp, styled, tree
from ._session import CommandError, Json, existing
from ._timeline import Step, steps
from .threads import document as thread_document
from .threads import summary

SHORT_ID = 18  # characters that hold the time of an id
WIDE = 120  # columns that have room for whole ids

_SOURCES = {"input": "cyan", "loop": "green", "update": "magenta", "fork": "yellow"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("show")(show)


def show(
    context: typer.Context,
    thread: str,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="Only this one; '' is the root's.")
    ] = None,
    limit: Annotated[
        int, typer.Option(min=0, help="How many checkpoints, the newest; 0 for all.")
    ] = 100,
    json: Json = False,
) -> None:
    """Show the timeline of a thread, from the oldest checkpoint to the newest."""
    with context.obj.saver() as saver:
        info = existing(saver, thread)
        if namespace is not None and namespace not in info.namespaces:
            raise CommandError(f"thread {thread!r} has no namespace {namespace!r}")
        found = list(islice(steps(saver, thread, namespace), limit or None))
        total = info.checkpoints if namespace is None else info.namespaces.get(namespace, 0)
        if json:
            emit(_document(info, found, total))
        else:
            tree(_thread_branch(info, found, total))


def _document(info: ThreadInfo, found: Sequence[Step], total: int) -> dict[str, Any]:
    return {
        **thread_document(info),
        "older": total - len(found),
        "timeline": [_step_document(step) for step in reversed(found)],
    }


def _step_document(step: Step) -> dict[str, Any]:
    return {
        "namespace": step.namespace,
        "checkpoint_id": step.checkpoint_id,
        "parent_id": step.parent_id or None,
        "made": stamp(step.made),
        "step": step.step,
        "source": step.source,
        "run_id": step.metadata.get("run_id"),
        "bytes": step.bytes,
        "writes": step.writes,
        "next": list(step.next),
        "interrupts": _values.plain(step.interrupts),
        "errors": list(step.errors),
        "waiting_tasks": list(step.waiting),
        "failed_tasks": list(step.failed),
    }


# The tree


def _thread_branch(info: ThreadInfo, found: Sequence[Step], total: int) -> Branch:
    line = styled((info.thread_id, "bold"), f"  {summary(info)}, last used {ago(info.last)}")
    branch = Branch(line)
    if older := total - len(found):
        branch.below.append(Branch(styled((f"{older:,} older: --limit 0 shows all", "dim"))))
    branch.below += _Growing(found).namespaces()
    return branch


class _Growing:
    """Namespaces as branches, those of subgraphs below the step that called them."""

    def __init__(self, found: Sequence[Step]) -> None:
        self._steps = {(step.namespace, step.checkpoint_id): step for step in reversed(found)}
        self._by_namespace: dict[str, list[Step]] = defaultdict(list)
        for step in self._steps.values():
            self._by_namespace[step.namespace].append(step)
        self._called: dict[tuple[str, str], list[str]] = defaultdict(list)
        for namespace, own in self._by_namespace.items():
            self._called[self._caller(namespace, own)].append(namespace)

    def _caller(self, namespace: str, own: Sequence[Step]) -> tuple[str, str]:
        """Return the step that called a namespace first, or an empty name if it is not shown."""
        parents = own[0].metadata.get("parents") or {}
        around = namespace.rpartition("|")[0]
        caller = (around, str(parents.get(around, "")))
        return caller if namespace and caller in self._steps else ("", "")

    def namespaces(self) -> list[Branch]:
        """Return the namespaces that none of the shown steps has called."""
        return [self._namespace(name) for name in sorted(self._called["", ""])]

    def _namespace(self, name: str) -> Branch:
        own = self._by_namespace[name]
        line = styled(
            (name or "(root)", "bold blue"), (f"  {count(len(own), 'checkpoint')}", "dim")
        )
        return Branch(line, _Chains(own, self._below).all())

    def _below(self, step: Step) -> list[Branch]:
        called = self._called.get((step.namespace, step.checkpoint_id), [])
        return [self._namespace(name) for name in called]


class _Chains:
    """The steps of a namespace, oldest first; forks are below the step that they begin at."""

    def __init__(self, own: Sequence[Step], below: Callable[[Step], list[Branch]]) -> None:
        self._own = {step.checkpoint_id: step for step in own}
        self._below = below
        self._next: dict[str, list[Step]] = defaultdict(list)
        self._newest: dict[str, str] = {}
        for step in own:
            self._next[step.parent_id].append(step)
        for step in reversed(own):  # the newest that each one leads to
            newest = self._newest.setdefault(step.checkpoint_id, step.checkpoint_id)
            self._newest[step.parent_id] = max(newest, self._newest.get(step.parent_id, ""))
        self._seen = set[str]()

    def all(self) -> list[Branch]:
        """Return all chains: one, unless their common beginning was pruned."""
        first = [step for step in self._own.values() if step.parent_id not in self._own]
        branches = [branch for step in first for branch in self._chain(step)]
        loops = [step for step in self._own.values() if step.checkpoint_id not in self._seen]
        return branches + [branch for step in loops for branch in self._chain(step)]

    def _chain(self, step: Step | None) -> list[Branch]:
        branches: list[Branch] = []
        while step and step.checkpoint_id not in self._seen:
            self._seen.add(step.checkpoint_id)
            following = sorted(
                self._next[step.checkpoint_id], key=lambda one: self._newest[one.checkpoint_id]
            )
            branch = Branch(_line(step, is_last=not following), self._below(step))
            for fork in following[:-1]:
                branch.below.append(Branch(styled(("fork", "yellow")), self._chain(fork)))
            branches.append(branch)
            step = following[-1] if following else None
        return branches


def _line(step: Step, *, is_last: bool) -> Text:
    whole = not out.is_terminal or out.width >= WIDE
    checkpoint_id = step.checkpoint_id if whole else step.checkpoint_id[:SHORT_ID]
    number = "?" if step.step is None else str(step.step)
    line = styled(
        (f"{number:>3}", "bold"),
        f"  {checkpoint_id}  ",
        (f"{step.source:<6}", _SOURCES.get(step.source, "")),
        (f"  {size(step.bytes):>8}", "dim"),
        f"  next: {', '.join(step.next)}" if step.next else "",
    )
    for remark in _remarks(step, is_last=is_last):
        line.append("\n     " if out.is_terminal else "  ").append_text(styled(remark))
    return line


def _remarks(step: Step, *, is_last: bool) -> list[tuple[str, str]]:
    """Return why a step stopped, as lines of their own in a terminal."""
    asked, style = ("waits for", "bold yellow") if is_last else ("asked", "yellow")
    remarks = [
        (f"{asked}{_of(task)}: {_values.preview(one['value'])}", style)
        for one, task in zip(step.interrupts, step.waiting, strict=True)
    ]
    return remarks + [
        (f"failed{_of(task)}: {_values.preview(error)}", "red")
        for error, task in zip(step.errors, step.failed, strict=True)
    ]


def _of(task: str) -> str:
    return f" ({task})" if task else ""
