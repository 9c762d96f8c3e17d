"""The `statecast` command: finds the sub-command and leaves the work to its module."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from publisher import stop_signals

DESCRIPTION = "Keep the true state of an exchange account in Redis, for any number of trading bots."

EPILOG = """\
Start here:

    statecast demo                  try it on this machine, without keys
    statecast publish --help        follow your own account
    statecast show                  what Redis holds, and how fresh it is

`statecast COMMAND --help` explains each command.
"""


def parser() -> argparse.ArgumentParser:
    """The command line of all commands."""
    from importlib.metadata import version

    from statecast.cli import demo, events, groups, publish, redis, show, simulate

    top = argparse.ArgumentParser(
        prog="statecast",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"statecast {version('statecast')}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND")
    for command in (demo, publish, simulate, show, events, groups, redis):
        command.add_parser(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. Ctrl-C is an end like any other; so is a reader of our output that has gone."""
    if arguments is None and sys.argv[1:2] == ["publish"]:  # It may be stopped while modules are imported.
        stop_signals.OF_PROCESS.install()
    try:
        top = parser()
        args = top.parse_args(arguments)
        if not hasattr(args, "run"):
            top.print_help(sys.stderr)
            return 2
        code = int(args.run(args))
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # `… | head` has seen enough. What is left unwritten must not be tried again when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return code


if __name__ == "__main__":
    sys.exit(main())
