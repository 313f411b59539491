"""Entry point of the commands of all packages: options, errors, interruption, exit codes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from types import FrameType
from typing import Annotated, Any, NoReturn

import tyro

INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM
NO_READER = 128 + 13  # SIGPIPE, which Windows does not name

Commands = Mapping[str, tuple[Any, Callable[[Any], object]]]


class Terminated(BaseException):
    """SIGTERM. It cleans up as Ctrl-C does."""


class CommandError(RuntimeError):
    """A failure that a command reports in one sentence, without a traceback."""


def run_command(
    package: str, description: str, commands: Commands, arguments: Sequence[str] | None = None
) -> None:
    """Parse ``python -m package COMMAND …`` and run the command.

    ``description`` is the first line of the help. ``commands`` maps the name of a command to a
    pair: its options, a frozen dataclass with a docstring that explains the command, and the
    function to call with them.

    Raises ``SystemExit`` with code 1 after an error (one line on stderr), 2 for options that
    cannot be used, 130 after SIGINT, 143 after SIGTERM, and 141 if nobody reads the output
    (``| head``).
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments == ["--version"]:
        print(f"wide-flat-minima {version('wide-flat-minima')}")
        return
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        name, config = tyro.extras.subcommand_cli_from_dict(
            {name: _parser(name, options) for name, (options, _) in commands.items()},
            prog=f"python -m {package}",
            description=description,
            args=arguments,
        )
        commands[name][1](config)
    except (ValueError, OSError, ImportError, ArithmeticError, CommandError) as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            raise SystemExit(NO_READER) from None
        raise SystemExit(f"Error: {error}") from error
    except KeyboardInterrupt:
        _leave("Interrupted", INTERRUPTED)
    except Terminated:
        _leave("Terminated", TERMINATED)
    finally:
        signal.signal(signal.SIGTERM, before)


def _parser(name: str, options: Any) -> Callable[..., tuple[str, Any]]:
    def parse(config: Any) -> tuple[str, Any]:
        return name, config

    parse.__annotations__["config"] = Annotated[options, tyro.conf.arg(name="")]
    parse.__doc__ = options.__doc__
    return parse


def _nobody_reads() -> bool:
    """Whether the reader of the output is gone. If so, the rest of the output is thrown away."""
    try:
        print(flush=True)
    except BrokenPipeError:
        # Python flushes again at its exit, and would print the error then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def _terminate(_: int, __: FrameType | None) -> NoReturn:
    raise Terminated


def _leave(word: str, code: int) -> NoReturn:
    print(f"\n{word}. The same command continues from what is stored.", file=sys.stderr)
    raise SystemExit(code)
