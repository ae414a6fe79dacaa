"""What `with` says of a saver, which is no context manager: `from_conn_string` returns one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn


class _NoBlockError(AttributeError, TypeError):
    """A saver was used in a `with` block.

    Python raises a `TypeError` for such objects. As an `AttributeError`, it lets `hasattr` answer
    that a saver lacks these methods, by which frameworks tell context managers from savers.
    """


class _Refusal:
    """A method that `with` looks for, and that is not there."""

    def __get__(self, saver: object, owner: type) -> NoReturn:
        # Told by its name: this is below both savers.
        is_async = owner.__name__.startswith("Async")
        start, close = (
            ("async with", "await saver.aclose()") if is_async else ("with", "saver.close()")
        )
        raise _NoBlockError(
            f"{owner.__name__} is not a context manager. Write `{start} "
            f"{owner.__name__}.from_conn_string(url) as saver:`, or make the saver without a block "
            f"and end it by `{close}`"
        )


class NoBlock:
    """A class whose instances say what to write instead of `with` and `async with`."""

    if not TYPE_CHECKING:  # type checkers refuse such a block by themselves
        __enter__ = __exit__ = __aenter__ = __aexit__ = _Refusal()
