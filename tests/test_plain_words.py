"""Pages and programs use the usual words of traders and of Redis: one word for each idea, as in docs/glossary.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "tests/README.md",
    *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/*.md")),
)

RATHER = {
    r"told|untold|retold|retell\w*": "logged, sent, reported; incomplete; reconstructed",
    r"unheard|heard": "not received, received",
    r"news": "newer, changes, events",
    r"vouch\w*|grounds": "verify, verified until",
    r"lack|lacks|lacked|lacking": "missing",
    r"beside|besides": "next to, as well as",
    r"insist\w*|bear|bears|borne|bury|buries|buried|mend\w*|distrust\w*": "repeat, tolerate, fix, resync",
    r"born|comes? again": "created, placed; repeated, received again",
    r"suspicions?|suspected": "discrepancies",
    r"torn|untorn": "consistent, inconsistent",
    r"stands? by|stood by|standing by": "is a standby",
    r"holes?": "gap",
    r"mute": "silent",
    r"fold|folds|folded|backfill\w*|REST probes?": "account, gap fill, check",
    r"for ever|anew|hence|lest|whoso\w*": "permanently, again, so",
    r"(?:be|is) believed|may (?:I|it) be(?:lieve)?": "fresh, verified",
}
"""Words that are not used, whole and in any case, and what to write instead."""

PROGRAMS = ("publisher", "consumers", "statecast", "examples", "bench")
"""Packages in which those words stand nowhere: not in a docstring, a comment, a text or a name."""

PUBLISHED = {
    "refresh-news": "a key of contract version 1 (docs/redis.md)",
    "refresh_news": "the attribute of `AccountKeys` that spells this key",
    "mute_user_sockets": "a fault of `statecast simulate`, by its name in the control interface",
    "mute_market_sockets": "another",
    "mute_open_sockets": "another",
}
"""Names that others use already, and where they are published."""

HEADINGS = {"ARCHITECTURE.md": {"## Inferred, hence configurable"}}
"""Lines that stay, because programs look for them."""

_JOINT = re.compile(r"_|(?<=[a-z])(?=[A-Z])")
"""Where the words of a name meet."""

_CODE = re.compile(r"^```[\s\S]*?^```$|^(?:    |\t).*$|`[^`\n]*`|\]\([^)\n]*\)", re.MULTILINE)


def prose(text: str) -> str:
    """The text without code, which keeps its lines."""
    return _CODE.sub(lambda code: re.sub(r"[^\n]", " ", code[0]), text)


def found(text: str, kept: set[str] = frozenset()) -> list[tuple[int, str, str]]:
    """Line, word and advice, for each of those words in the prose of a page."""
    return [
        (number, match[0], rather)
        for number, line in enumerate(prose(text).splitlines(), start=1)
        if line not in kept
        for words, rather in RATHER.items()
        for match in re.finditer(rf"\b(?:{words})\b", line, re.IGNORECASE)
    ]


def found_in_program(text: str) -> list[tuple[int, str, str]]:
    """Line, word and advice, for each of those words in a program: names are read word by word."""
    for name in PUBLISHED:
        text = re.sub(rf"(?<![\w-]){name}(?![\w-])", "", text)
    return [
        (number, match[0], rather)
        for number, line in enumerate(_JOINT.sub(" ", text).splitlines(), start=1)
        for words, rather in RATHER.items()
        for match in re.finditer(rf"\b(?:{words})\b", line, re.IGNORECASE)
    ]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_uses_plain_words(page: str) -> None:
    words = found((ROOT / page).read_text("utf-8"), HEADINGS.get(page, set()))
    assert not words, "\n".join(f"{page}:{number}: {word!r}, rather: {rather}" for number, word, rather in words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("What was told is logged.", ["told"]),
        ("It stays so for ever.", ["for ever"]),
        ("Nobody vouches for a hole.", ["vouches", "hole"]),
        ("`event.untold` says which", []),
        ("```\ntold\n```\nlogged", []),
        ("    told\nA hole.", ["hole"]),
        ("toll, newspaper, whole, bearer", []),
        ("[page](told.md)", []),
    ],
)
def test_what_counts_as_such_a_word(text: str, words: list[str]) -> None:
    assert [word for _, word, _ in found(text)] == words


@pytest.mark.parametrize("package", PROGRAMS)
def test_a_program_uses_plain_words(package: str) -> None:
    paths = [path for suffix in ("py", "lua", "mjs") for path in sorted((ROOT / package).rglob(f"*.{suffix}"))]
    assert paths
    words = [
        f"{path.relative_to(ROOT)}:{number}: {word!r}, rather: {rather}"
        for path in paths
        for number, word, rather in found_in_program(path.read_text("utf-8"))
    ]
    assert not words, "\n".join(words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def was_told(self): ...", ["told"]),
        ("class Untold:  # a hole", ["Untold", "hole"]),
        ('log.warning("second_connection_mute")', ["mute"]),
        ("local isMute = redis.call('GET', KEYS[1])", ["Mute"]),
        ("await self._stand_by(holder)", ["stand by"]),
        ('self.refresh_news = prefix + "refresh-news"', []),
        ('fault("mute_user_sockets", on=True)', []),
        ("refresh_news_of_today", ["news"]),
        ("folder, newspaper, wholesale", []),
    ],
)
def test_what_counts_as_such_a_word_in_a_program(text: str, words: list[str]) -> None:
    assert [word for _, word, _ in found_in_program(text)] == words


def test_the_log_events_of_the_glossary_are_logged() -> None:
    page = (ROOT / "docs/glossary.md").read_text("utf-8")
    named = {
        event for events in re.findall(r"log events? ((?:`\w+`(?:, )?)+)", page) for event in re.findall(r"\w+", events)
    }
    logged = "\n".join(path.read_text("utf-8") for path in (ROOT / "publisher").glob("*.py"))
    assert len(named) > 5
    assert not [event for event in sorted(named) if f'"{event}"' not in logged]
