"""The program: its global options, its commands, and what becomes of errors."""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import suppress
from io import TextIOWrapper
from typing import Annotated, NoReturn

import typer
from redis.exceptions import RedisClusterException, RedisError

from langgraph_checkpoint_redis import __version__
from langgraph_checkpoint_redis._admin import PASSING
from langgraph_checkpoint_redis.errors import ConfigError, RedisSaverError, UnsupportedServerError

from . import change, diff, doctor, health, moving, prune, show, state, stats, threads
from ._output import say
from ._reading import AES_KEY
from ._session import FILE, LOCAL, CommandError, Session, hidden

ISSUE = 1  # what was asked for is not there, or a problem was found
USAGE = 2  # the command cannot mean this
SERVER = 3  # the server is out of reach, refuses, or is not fit
CLOSED = 141  # stdout was a pipe that was closed: as a shell says of a program that SIGPIPE ended

app = typer.Typer(
    name="langgraph-redis",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # they show variables, and passwords are in some
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 not found or a problem found, 2 wrong usage, 3 no fit server, "
    "4 no fit file.",
)
for module in (threads, show, state, diff, change, prune, stats, health, doctor, moving):
    module.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        say(f"langgraph-checkpoint-redis-core {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    url: Annotated[
        str,
        typer.Option(envvar="REDIS_URL", help="The server.", show_envvar=True, show_default=LOCAL),
    ] = LOCAL,
    prefix: Annotated[
        str, typer.Option(envvar="LANGGRAPH_REDIS_PREFIX", help="What all keys begin with.")
    ] = "lg",
    aes_key_env: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]VARIABLE",
            help="The variable with the key of encrypted threads; NAME is that of the key in a "
            "KeyRing. Repeatable, the key to encrypt with first.",
            show_default="LANGGRAPH_AES_KEY",
        ),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODULE.CLASS",
            help="A class that may be imported to show its objects; `all` for any. Repeatable.",
        ),
    ] = None,
    version: Annotated[  # noqa: ARG001 - its callback has seen to it
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Look at, check and tidy up the LangGraph threads in a Redis or Valkey server."""
    context.obj = Session(url, prefix, tuple(aes_key_env or (AES_KEY,)), tuple(allow or ()))


def run() -> None:
    """Run a command; turn errors into a message on stderr and an exit code."""
    for stream in (sys.stdout, sys.stderr):  # a character that it lacks is no reason to stop
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        _run_and_flush()
    except CommandError as error:
        _end(error.code, str(error))
    except (ConfigError, RedisSaverError, RedisError, RedisClusterException) as error:
        _end(_code(error), str(error))
    except BrokenPipeError:
        _drop_output()
        sys.exit(CLOSED)
    except OSError as error:
        _drop_output()
        _end(FILE, f"cannot write the output: {error}")
    except Exception:  # noqa: BLE001 - it is shown, but with no password in it
        _end(ISSUE, traceback.format_exc())


def _run_and_flush() -> None:
    """Run the command, and flush its output while an error can still be reported."""
    stdout = sys.stdout
    try:
        app()
    finally:
        if sys.stdout is not stdout:  # click saw that the pipe is closed
            raise BrokenPipeError
        sys.stdout.flush()


def _drop_output() -> None:
    """Keep Python from writing the rest of the output when it exits."""
    null = os.open(os.devnull, os.O_WRONLY)
    with suppress(OSError):  # it has no number where a test captures it
        os.dup2(null, sys.__stdout__.fileno() if sys.__stdout__ else null)
    os.close(null)


def _code(error: Exception) -> int:
    if isinstance(error, ConfigError):
        return USAGE
    unfit = (UnsupportedServerError, RedisError, *PASSING)
    return SERVER if isinstance(error, unfit) else ISSUE


def _end(code: int, message: str) -> NoReturn:
    with suppress(OSError):  # stderr may be closed or full as well
        say(f"langgraph-redis: {hidden(message).rstrip()}", error=True)
    sys.exit(code)
