"""SIGINT and SIGTERM, from the first moment of a process to its last: each of them asks for the same orderly stop.

Left to the interpreter, one that comes while modules are imported, or a second one while the service stops, would end
the process at once. Importing this module costs nothing, so a command does it before everything else.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType

NUMBERS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """What a process has received of them."""

    def __init__(self) -> None:
        self._received = False
        self._act: Callable[[], object] = _nothing

    @property
    def received(self) -> bool:
        """Whether a stop was asked for."""
        return self._received

    def install(self) -> None:
        """Catch them from now on."""
        for number in NUMBERS:
            signal.signal(number, self._take)

    def ignore(self) -> None:
        """The process is about to end, and its exit code is decided."""
        for number in NUMBERS:
            signal.signal(number, signal.SIG_IGN)

    def then(self, act: Callable[[], object]) -> None:
        """Call `act` with each of them: at any moment, in the main thread. Now, where one was received already."""
        self._act = act
        if self._received:
            act()

    def _take(self, _number: int, _frame: FrameType | None) -> None:
        self._received = True
        self._act()


def _nothing() -> None:
    return


OF_PROCESS = StopSignals()
"""A process has one set of them."""
