"""Three bugs planted on purpose: a simulation that does not find them proves nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Break the program while the context lasts; an empty name leaves it whole."""
    if name:
        raise NotImplementedError(name)
    yield
