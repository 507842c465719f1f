"""Between the shell and the commands: a model may come first, and every end has its message and exit code."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import Any, NoReturn

import typer
from rich.console import Console
from typer.core import TyperGroup

from exporter.errors import ExportError, UsageError, nearest

NAME = "edge-export"
FOR_ALL = ("--json", "--quiet", "-q")
"""Flags that may stand before a command, too."""
HELP = ("--help", "-h", "--version")
SIGNALS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
if hasattr(signal, "SIGHUP"):
    SIGNALS[signal.SIGHUP] = "terminated"
LOG_COLUMNS = 120
"""Where there is no terminal, Rich assumes 80 columns, and names in tables would be folded."""


class ModelFirst(TyperGroup):
    """`edge-export MODEL …` is `edge-export export MODEL …`; options may stand before the model, too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        flags = next((i for i, word in enumerate(args) if word not in FOR_ALL), len(args))
        word = args[flags] if flags < len(args) else ""
        if word in self.commands:
            args = [word, *args[:flags], *args[flags + 1 :]]
        elif args and args[0] not in HELP:
            # No model is a plain word like these; a recipe file and a module:function have a dot or a colon.
            if word.isalpha() and (hint := nearest(word, self.commands)):
                raise UsageError(f"there is no command {word!r}", why=hint, try_="edge-export --help")
            args = ["export", *args]
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed


class _Stopped(BaseException):
    """A signal came. It unwinds everything, so that scratch folders go; Typer would turn Ctrl-C into success."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number)
        self.number = number


def run(app: typer.Typer, arguments: Sequence[str] | None = None) -> None:
    """Run a command line to its end: one message for every failure, and the exit code of its family."""
    for number in SIGNALS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):  # nohup has SIGHUP ignored
            signal.signal(number, _stop)
    try:
        app(args=list(arguments) if arguments is not None else None, prog_name=NAME, standalone_mode=False)
        sys.stdout.flush()
    except ExportError as error:
        _leave(str(error), error.exit_code)
    except _Stopped as stopped:
        _leave(f"{SIGNALS[stopped.number]}: nothing was written", 128 + stopped.number)
    except BrokenPipeError:  # the reader, `head` perhaps, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if hasattr(error, "format_message"):  # click's own
            _leave_usage(error)
        traceback.print_exc()
        _leave("error: this is a bug in edge-export\n  try   report the lines above\nexit 1 (internal)", 1)


def console(*, stderr: bool = False) -> Console:
    """Plain text where there is no terminal, and wide enough for tables."""
    found = Console(stderr=stderr, highlight=False)
    if not found.is_terminal and "COLUMNS" not in os.environ:
        found.width = LOG_COLUMNS
    return found


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    for other in SIGNALS:  # a second Ctrl-C must not cut the tidying short
        signal.signal(other, signal.SIG_IGN)
    raise _Stopped(signal.Signals(number))


def _leave_usage(error: Any) -> NoReturn:
    """A wrong command line; a command without any arguments has printed its help already, and says no more."""
    if message := error.format_message():
        message = message.replace("Value error, ", "").rstrip(".")
        path = getattr(error.ctx, "command_path", NAME)
        message = str(UsageError(message[:1].lower() + message[1:], try_=f"{path} --help"))
    _leave(message, UsageError.exit_code)


def _leave(message: str, code: int) -> NoReturn:
    if message:
        sys.stderr.write(message + "\n")
    sys.exit(code)
