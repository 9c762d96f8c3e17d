"""Commands inside the test's own process, where nothing but their words and exit code counts."""

from __future__ import annotations

from statecast.cli import main


def exit_code(arguments: list[str]) -> int:
    """Run `statecast` with these arguments; the exit code, also of options that argparse refuses."""
    try:
        return main.main(arguments)
    except SystemExit as end:
        return int(end.code or 0)
