"""`statecast publish`: the publisher service, the same as `python -m publisher`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from publisher.__main__ import add_arguments, run

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("publish", help="follow an account and keep its state in Redis")
    add_arguments(parser)
    parser.set_defaults(run=run)
