"""A string that never prints itself."""

from __future__ import annotations

import hashlib


class Secret:
    """Holds a key, a password or a listen key; `repr`, `str` and format show a placeholder.

    Ask for the text with `reveal()`, at the one place that puts it on the wire.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself. What comes back must not reach a log, an exception or a key in Redis."""
        return self._text

    def fingerprint(self) -> str:
        """Distinguishes secrets; the text cannot be found from it."""
        return hashlib.sha256(self._text.encode()).hexdigest()[:12]

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "Secret('***')"

    def __str__(self) -> str:
        return "***"

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not pickled")
