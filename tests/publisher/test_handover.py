"""The change from one connection to the next, without a socket: tables of what is sent, and what must come of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from publisher.handover import (
    AFTERWARDS_S,
    CATCH_UP_S,
    LAG_S,
    NOT_SHARED,
    OVERLAP_FRAMES,
    OVERLAP_S,
    RECENT_FRAMES,
    Handover,
    Message,
    Step,
)
from statecast.domain.changes import Frame, MultiAssetsUpdate
from statecast.errors import FrameError

START_S = 1_000.0
OLD, NEW = 0, 1

CHANGE = MultiAssetsUpdate(True)


def event(name: str) -> Message:
    """It changes the account."""
    return Message(Frame(name, 1, (CHANGE,)), name)


def own_event(name: str) -> Message:
    """It changes the account, and concerns one connection alone, as a snapshot at the beginning does."""
    return Message(Frame(name, 1, (CHANGE,)))


def word(name: str) -> Message:
    """It changes nothing."""
    return Message(Frame(name, 1, notice="ignored"), name)


def nonsense(name: str) -> Message:
    return Message(FrameError(name, "body", "makes no sense"), name)


def name_of(message: Message) -> str:
    return message.content.event


@dataclass
class Case:
    """Steps such as `old 1` (the old connection sends event 1), `new (word)`, `new [own event]`, `new !nonsense`,
    `joins`, `ready`, `old ends`, `new ends` and `+5` (seconds pass, with a tick at every deadline); what was passed on,
    the verdicts with their times, and the phase at the end."""

    steps: str
    passed: str
    verdicts: list[str] = field(default_factory=list)
    phase: str = "single"
    proven: bool | None = None


class Run:
    def __init__(self) -> None:
        self.handover = Handover(OLD)
        self.now_s = START_S
        self.old, self.new = OLD, OLD
        self.passed: list[str] = []
        self.verdicts: list[str] = []

    def do(self, step: str) -> None:
        who, _, what = step.partition(" ")
        if step == "joins":
            self.old, self.new = self.handover.current, self.new + 1
            self.handover.joins(self.new)
        elif step == "ready":
            self.handover.ready(self.now_s)
        elif step.startswith("+"):
            self.pass_time(float(step[1:]))
        elif what == "ends":
            self.act(self.handover.ended(self.number(who), self.now_s))
        else:
            self.act(self.handover.received(self.number(who), message(what), self.now_s))

    def number(self, who: str) -> int:
        return {"old": self.old, "new": self.new}[who]

    def pass_time(self, seconds: float) -> None:
        until_s = self.now_s + seconds
        while (due := self.handover.due_mono_s) <= until_s:
            assert due >= self.now_s, "what was due is done"
            self.now_s = due
            self.act(self.handover.tick(due))
            assert self.handover.due_mono_s > due, "a deadline comes once"
        self.now_s = until_s
        self.act(self.handover.tick(until_s))

    def act(self, step: Step) -> None:
        pass_on, verdict, reason = step
        self.passed += [name_of(one) for one in pass_on]
        if verdict is not None:
            self.verdicts.append(f"{verdict} {reason}".strip() + f" at {self.now_s - START_S:g}")


def message(what: str) -> Message:
    kind, name = what[0], what.strip("()[]!")
    return {"(": word, "[": own_event, "!": nonsense}.get(kind, event)(name)


CASES = {
    "a single connection's messages are passed on as they come, also what it sends twice": Case(
        "old 1, old 2, old 1", "1 2 1"
    ),
    "what both send is passed on once and proves the new connection": Case(
        "joins, ready, old 1, old 2, new 1, new 2, new 3, +1, +30", "1 2 3", ["replaced at 1"], proven=True
    ),
    "the proof holds whichever of the two is first": Case(
        "joins, ready, new 1, new 2, old 1, old 2, +1, +30", "1 2", ["replaced at 1"], proven=True
    ),
    "what the old connection sent before the new one was opened proves it, too": Case(
        "old 1, joins, ready, new 1, +1, +30", "1", ["replaced at 1"], proven=True
    ),
    "what a slow new connection repeats is not passed on again": Case(
        "old lev5, joins, ready, old lev7, old lev9, new lev5, new lev7, +1, new lev9, new lev11, +30",
        "lev5 lev7 lev9 lev11",
        ["replaced at 1"],
        proven=True,
    ),
    "a new connection that is ahead of the old one changes no order": Case(
        "joins, ready, new lev9, new filled, +1, old lev5, old placed, old lev9, old filled, +1, +30",
        "lev5 placed lev9 filled",
        ["replaced at 2"],
        proven=True,
    ),
    "after the proof the old connection's order still counts, until it is closed": Case(
        "joins, ready, old 1, new 1, new 3, old 2, old 3, +1, +30", "1 2 3", ["replaced at 1"], proven=True
    ),
    "what the old one has not sent when it is closed, the new one has": Case(
        "joins, ready, old 1, new 1, new 2, +1, new 3, +30", "1 2 3", ["replaced at 1"], proven=True
    ),
    "the old one's end after the proof is no gap": Case(
        "joins, ready, old 1, new 1, new 2, old ends, new 3, +30", "1 2 3", ["replaced at 0"], proven=True
    ),
    "the new one's end after the proof is a gap": Case(
        "joins, ready, old 1, new 1, new ends", "1", ["gap at 0"], "afterwards", proven=True
    ),
    "on a quiet account the new connection takes over unproven": Case(
        "joins, ready, +29.9, +0.1, new 1, +30", "1", ["replaced at 30"], proven=False
    ),
    "words about the connection prove nothing": Case(
        "joins, ready, old (shutdown), new (shutdown), +30, +30", "shutdown", ["replaced at 30"], proven=False
    ),
    "a word of the new connection alone is passed on when the old one had its time": Case(
        "joins, ready, new (shutdown), +4.9, +0.1, old 1, new 1, +1, +30",
        "shutdown 1",
        ["replaced at 6"],
        proven=True,
    ),
    "nonsense of the new connection alone is passed on like a word": Case(
        "joins, ready, new !x, +5, +25, +30", "x", ["replaced at 30"], proven=False
    ),
    "nonsense that both send is passed on once": Case(
        "joins, ready, old !x, new !x, +30, +30", "x", ["replaced at 30"], proven=False
    ),
    "a new connection that does not send what the old one does is given up": Case(
        "joins, ready, +10, old 1, +4.9, +0.1, old 2", "1 2", ["given_up silent at 15"], proven=False
    ),
    "also at the end of the overlap it has its time": Case(
        "joins, ready, +29, old 1, +2, new 1, +1, +30", "1", ["replaced at 32"], proven=True
    ),
    "and is given up after it": Case("joins, ready, +29, old 1, +5", "1", ["given_up silent at 34"], proven=False),
    "what was held of one that was given up, the old one sends": Case(
        "joins, ready, old 1, +4.9, new 2, +0.1, old 2", "1 2", ["given_up silent at 5"], proven=False
    ),
    "the next one is judged by what happens from then on": Case(
        "joins, ready, old 1, +5, +10, joins, ready, +10, old 2, new 2, +1, +30",
        "1 2",
        ["given_up silent at 5", "replaced at 26"],
        proven=True,
    ),
    "what was held of one that was given up, is not taken for the next one's": Case(
        "joins, ready, old 1, new 2, new ends, joins, ready, old 3, new 3, +1, +30",
        "1 3",
        ["given_up lost at 0", "replaced at 1"],
        proven=True,
    ),
    "a new connection that is lost is given up": Case(
        "joins, ready, old 1, new ends, old 2", "1 2", ["given_up lost at 0"], proven=False
    ),
    "one that cannot be made is given up": Case("joins, old 1, new ends, old 2", "1 2", ["given_up lost at 0"]),
    "the old one's end before the proof is a gap": Case("joins, ready, old ends", "", ["gap at 0"], "overlap"),
    "the old one's end before the new one is ready is a gap": Case("joins, old ends", "", ["gap at 0"], "joining"),
    "the only one's end is a gap": Case("old ends", "", ["gap at 0"]),
    "an event that only the new one sends is a gap, and passed on": Case(
        "joins, ready, new 1, +1, new 2, +4", "1 2", [f"gap {NOT_SHARED} at 5"], "overlap", proven=False
    ),
    "an event just before a word's time is over is given its own time": Case(
        "joins, ready, new (shutdown), +4.9, new 1, +0.2, old 1, +1, +30",
        "shutdown 1",
        ["replaced at 6.1"],
        proven=True,
    ),
    "what comes before the new one is ready proves nothing and is held": Case(
        "joins, new 1, old 1, new 2, +10, ready, +4, old 2, +1, +30", "1 2", ["replaced at 15"], proven=True
    ),
    "and has the whole time from then on": Case(
        "joins, new 1, +10, ready, +4.9, +0.1", "1", [f"gap {NOT_SHARED} at 15"], "overlap", proven=False
    ),
    "a snapshot of the new connection's own is passed on in time and disproves nothing": Case(
        "joins, new [all], ready, old 1, +1, new 1, +1, +30", "1 all", ["replaced at 2"], proven=True
    ),
    "and so is each of several": Case(
        "joins, new [a], new [b], ready, old 1, new 1, +1, +30", "1 a b", ["replaced at 1"], proven=True
    ),
    "on a quiet account it is, too": Case(
        "joins, ready, new [all], +5, +25, +30", "all", ["replaced at 30"], proven=False
    ),
    "what concerns one connection alone is never taken for a copy": Case(
        "old [all], joins, ready, old [all], new [all], +5, +25, +30",
        "all all all",
        ["replaced at 30"],
        proven=False,
    ),
    "state that one connection repeats all the time does not prolong the overlap": Case(
        "joins, ready, new [a], +10, new [b], +10, new [c], +9, new [d], +1, +30",
        "a b c d",
        ["replaced at 30"],
        proven=False,
    ),
    "what comes of a connection that was closed is not passed on": Case(
        "joins, ready, +30, old 9, +30", "", ["replaced at 30"], proven=False
    ),
    "each replacement needs a proof of its own": Case(
        "joins, ready, old 1, new 1, +1, +30, joins, ready, +30, +30",
        "1",
        ["replaced at 1", "replaced at 61"],
        proven=False,
    ),
    "one replacement follows another": Case(
        "joins, ready, old 1, new 1, +1, +30, joins, ready, old 2, new 1, new 2, +1, +30",
        "1 2",
        ["replaced at 1", "replaced at 32"],
        proven=True,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_change_of_connections(name: str) -> None:
    case = CASES[name]
    run = Run()
    for step in case.steps.split(", "):
        run.do(step)
    assert run.passed == case.passed.split()
    assert run.verdicts == case.verdicts
    assert run.handover.phase == case.phase
    assert case.proven in (None, run.handover.proven)
    if case.phase == "single":
        assert run.handover.due_mono_s == math.inf, "nothing is left to wait for"


def test_the_constants_that_the_table_is_written_by() -> None:
    assert (OVERLAP_S, LAG_S, AFTERWARDS_S, CATCH_UP_S) == (30, 5, 1, 30)


def sent(handover: Handover, connection: int, numbers: range) -> None:
    for number in numbers:
        handover.received(connection, event(str(number)), START_S)


def is_remembered(handover: Handover, connection: int, number: int) -> bool:
    """Whether another connection's copy would be known."""
    return not handover.received(connection, event(str(number)), START_S).pass_on


def test_what_is_remembered_of_one_connection_is_bounded() -> None:
    handover = Handover(OLD)
    sent(handover, OLD, range(RECENT_FRAMES + 10))
    assert len(handover._sent) == RECENT_FRAMES
    assert next(iter(handover._sent)) == "10", "the oldest are forgotten"


def test_of_two_connections_more_is_remembered_until_the_new_one_has_caught_up() -> None:
    handover = Handover(OLD)
    handover.joins(NEW)
    sent(handover, OLD, range(OVERLAP_FRAMES + 10))
    assert len(handover._sent) == OVERLAP_FRAMES
    handover.ready(START_S)
    handover.received(NEW, event("100"), START_S)
    assert handover.proven
    handover.tick(START_S + AFTERWARDS_S)
    assert handover.current == NEW
    assert is_remembered(handover, NEW, 10)
    handover.tick(START_S + AFTERWARDS_S + CATCH_UP_S)
    assert len(handover._sent) == RECENT_FRAMES
    assert not is_remembered(handover, NEW, 10)
    assert is_remembered(handover, NEW, OVERLAP_FRAMES)


def arrivals(emitted_s: list[float], lags_s: list[float], since_s: float) -> list[tuple[float, int]]:
    """When a connection that is subscribed since then sends the events, in their order."""
    found, last_s = [], 0.0
    for number, (at_s, lag_s) in enumerate(zip(emitted_s, lags_s, strict=True)):
        if at_s >= since_s:
            last_s = max(last_s, at_s + lag_s)
            found.append((last_s, number))
    return found


@settings(derandomize=True, max_examples=300, deadline=None, database=None)
@given(data=st.data())
def test_whatever_either_is_behind_by_each_event_is_passed_on_once_and_in_order(data: st.DataObject) -> None:
    """Two connections that send the same events, each up to half of LAG_S late, from a moment in the middle on."""
    count = data.draw(st.integers(1, 25))
    lags = st.lists(st.floats(0, LAG_S / 2), min_size=count, max_size=count)
    pauses = data.draw(st.lists(st.sampled_from([0.0, 0.1, 1.0, 3.0, 20.0, 40.0]), min_size=count, max_size=count))
    emitted = [START_S + sum(pauses[: number + 1]) for number in range(count)]
    ready_s = START_S + data.draw(st.floats(0, 60))
    sent = [(at_s, "old", number) for at_s, number in arrivals(emitted, data.draw(lags), START_S)]
    sent += [(at_s, "new", number) for at_s, number in arrivals(emitted, data.draw(lags), ready_s)]
    run = Run()
    run.do("joins")
    run.pass_time(ready_s - START_S)
    early = [one for one in sent if one[0] < ready_s]
    for _, who, number in sorted(early):
        run.do(f"{who} {number}")
    run.do("ready")
    for at_s, who, number in sorted(one for one in sent if one[0] >= ready_s):
        run.pass_time(at_s - run.now_s)
        run.do(f"{who} {number}")
    run.pass_time(OVERLAP_S + LAG_S + AFTERWARDS_S + CATCH_UP_S)
    assert run.passed == [str(number) for number in range(count)]
    # It is given up where an event from before it was ready comes so late on the old one that it seems to be missing.
    assert [verdict.partition(" ")[0] for verdict in run.verdicts] in (["replaced"], ["given_up"])
    assert run.handover.phase == "single"
