"""The command line: `fastadapt COMMAND ...`.

Exit codes: 0 done; 1 numbers failed (training diverged, adapted weights are not finite, a check of doctor failed), or
`check` found what training would refuse; 2 a setting, file or folder can't be used (one sentence says which and why);
130 and 143 stopped by Ctrl-C or SIGTERM, with a checkpoint.
"""

import importlib
import io
import logging
import sys
from collections.abc import Sequence

from fastadapt.commands import COMMANDS
from fastadapt.errors import DivergenceError, FastadaptError
from fastadapt.heap import hold
from fastadapt.training import clock

USAGE = """usage: fastadapt COMMAND [options]

Meta-learning: learn a new task from a handful of samples in a few gradient steps.

commands:
{commands}

fastadapt COMMAND --help tells the options; fastadapt train PRESET --help those of a preset.
"""

STAYS = ("serve", "demo")
"""Commands that stay for days, and should not hold what one large request took."""


def usage() -> str:
    """Return the help of the command line as a whole."""
    return USAGE.format(commands="\n".join(f"  {name:<10} {text}" for name, text in COMMANDS.items()))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: the words after the program's name; None takes those of the process.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage(), end="")
        return 0 if words else 2
    if words[0] == "--version":
        from fastadapt.version import __version__

        print(f"fastadapt {__version__}")
        return 0
    command, rest = words[0], words[1:]
    if command not in COMMANDS:
        import difflib

        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        print(f"error: there is no command {command!r}{hint} (fastadapt --help lists them)", file=sys.stderr)
        return 2
    if argv is None:
        for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a sign gets a question mark, not an error
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")
    if argv is None and command not in STAYS:
        hold()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        with clock.command():
            return importlib.import_module(f"fastadapt.commands.{command}").main(rest)
    except DivergenceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except FastadaptError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except SystemExit as stop:  # how the parser ends after --help or a mistake
        return stop.code if isinstance(stop.code, int) else 2
    except BrokenPipeError:  # the reader of a pipe went away, as `| head` does
        sys.stderr.close()
        return 0
    except OSError as error:  # a file or disk that failed where nothing more precise is known
        print(f"error: {error.strerror or error}{f': {error.filename}' if error.filename else ''}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
