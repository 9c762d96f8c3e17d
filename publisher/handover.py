"""The change from one connection to the next without a gap. Pure: seconds of the monotonic clock are arguments.

Venues cut connections by age and announce the end of their servers. Where that is seen coming, a second connection is
made, and the first is closed only when the second has been seen to work. Two connections of one account send the same
events, each in the same order, and one may be behind the other. So

- an event that both send is passed on once (`Message.identity`);
- until the first connection is closed its order counts: what the second sends is held until the first has sent it, or
  an order's fill would come before the order, of which the second connection received nothing;
- an event that both have sent proves the second one. Words about the connection prove nothing;
- an event that only the first has sent within `LAG_S` means that the second does not work: it is given up;
- an event that only the second has sent within `LAG_S` means that the venue splits the events between them: a gap.

Phases, and what ends them:

    single       a second connection is to be made                              joining
    joining      it is ready                                                    overlap
                 it is lost                                                     single
    overlap      both have sent an event                                        afterwards
                 neither has sent one for OVERLAP_S                             catching_up
                 the second is lost, or does not send what the first has sent   single
    afterwards   AFTERWARDS_S are over, or the first is lost                    catching_up
    catching_up  CATCH_UP_S are over                                            single

The end of the connection that counts (`current`) is a gap in every phase.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable
from typing import Literal, NamedTuple

from statecast.domain.changes import Frame
from statecast.errors import FrameError

OVERLAP_S = 30.0
"""For so long two connections wait for an event that both of them send. On an account where nothing happens the second
replaces the first all the same, unproven."""

LAG_S = 5.0
"""What one of two connections has sent, the other sends within this time."""

AFTERWARDS_S = 1.0
"""Both stay open for so long after the proof: events of different types may come from different servers of a venue."""

CATCH_UP_S = 30.0
"""The new connection may be behind the old one by less than this."""

RECENT_FRAMES = 1_000
OVERLAP_FRAMES = 50_000
"""Identities remembered to know repeated messages: of one connection alone a few, because another gateway of the venue
may send a new connection what the old one sent just before; of two connections those of a minute. Where an identity is
the text of the message some 40 MB at the most."""

NOT_SHARED = "a second connection sends what the first does not: STATECAST_SHARED_STREAM=false?"


class Message(NamedTuple):
    """One delivery of a connection (`adapter.Delivery`), or why a message makes no sense.

    `identity` is what the copies of one event on two connections have in common; None where it concerns this connection
    alone: it is never taken for a copy, and neither proves nor disproves anything.
    """

    content: Frame | FrameError
    identity: Hashable | None = None

    @property
    def is_event(self) -> bool:
        """Whether it changes the account."""
        return isinstance(self.content, Frame) and bool(self.content.changes)

    @property
    def is_evidence(self) -> bool:
        """Whether another connection of the same account must send it, too."""
        return self.identity is not None and self.is_event


Verdict = Literal["replaced", "given_up", "gap"]


class Step(NamedTuple):
    """What to do now: pass messages on in this order, then act on the verdict.

    `replaced`: close the old connection. `given_up`: close the new one; another may be tried. `gap`: the stream has
    ended, for a `reason` or by the error that ended the connection.
    """

    pass_on: tuple[Message, ...] = ()
    verdict: Verdict | None = None
    reason: str = ""


NOTHING = Step()

Phase = Literal["single", "joining", "overlap", "afterwards", "catching_up"]


class Handover:
    """The connections of one stream, by numbers of the caller's. Say what happens; it says what to do."""

    def __init__(self, connection: int) -> None:
        self.phase: Phase = "single"
        self.proven = False
        """Whether an event has come on both connections of the latest overlap."""
        self._leading = connection
        """The connection whose order counts."""
        self._new: int | None = None
        self._until_mono_s = math.inf
        self._sent: OrderedDict[Hashable, tuple[int, bool]] = OrderedDict()
        """By identity, which connection has sent what was passed on, and whether it was an event."""
        self._room = RECENT_FRAMES
        self._held: dict[Hashable, tuple[Message, float]] = {}
        """What the new connection has sent and the old one not yet, and since when."""
        self._unmatched_mono_s: float | None = None
        """When the old connection sent the first event of the overlap."""

    @property
    def current(self) -> int:
        """The connection whose end is a gap."""
        return self._new if self.phase == "afterwards" and self._new is not None else self._leading

    @property
    def due_mono_s(self) -> float:
        """Call `tick` at this time at the latest; infinite where only messages change anything."""
        if self.phase != "overlap":
            return self._until_mono_s
        due = self._until_mono_s
        if self._held:
            due = min(due, next(iter(self._held.values()))[1] + LAG_S)
        if self._unmatched_mono_s is not None:
            due = min(due, self._unmatched_mono_s + LAG_S)
        return due

    # What happens

    def joins(self, connection: int) -> None:
        """A second connection is about to be made."""
        assert self._new is None, "two connections at the most"
        self._new = connection
        self.phase = "joining"
        self._until_mono_s = math.inf
        self._room = OVERLAP_FRAMES

    def ready(self, now_mono_s: float) -> None:
        """The second connection receives everything from now on."""
        assert self.phase == "joining"
        self.phase = "overlap"
        self.proven = False
        self._until_mono_s = now_mono_s + OVERLAP_S
        self._unmatched_mono_s = None
        self._held = {key: (message, now_mono_s) for key, (message, _) in self._held.items()}

    def received(self, connection: int, message: Message, now_mono_s: float) -> Step:
        """A message of either connection. What one of them sends twice is passed on twice."""
        identity = message.identity
        if identity is not None:
            sent = self._sent.get(identity)
            if sent is not None and sent[0] != connection:
                if sent[1]:
                    self._prove(now_mono_s)
                return NOTHING
        if connection == self._leading:
            if self._new is not None:
                self._match(message, now_mono_s)
            self._remember(connection, message)
            return Step((message,))
        if connection == self._new:
            self._held.setdefault(object() if identity is None else identity, (message, now_mono_s))
        return NOTHING

    def ended(self, connection: int, now_mono_s: float) -> Step:
        """A connection was lost, or could not be made."""
        if connection == self.current:
            return Step(verdict="gap")
        if connection == self._leading:  # The new one is proven: it has sent, or sends, what the old one did not.
            return self._replace(now_mono_s)
        return self._give_up("lost") if connection == self._new else NOTHING

    def tick(self, now_mono_s: float) -> Step:
        """Time has passed."""
        if self.phase == "overlap":
            return self._judge(now_mono_s)
        if now_mono_s < self._until_mono_s:
            return NOTHING
        if self.phase == "afterwards":
            return self._replace(now_mono_s)
        if self.phase == "catching_up":
            self.phase = "single"
            self._until_mono_s = math.inf
            self._room = RECENT_FRAMES
            self._forget()
        return NOTHING

    # Proof

    def _match(self, message: Message, now_mono_s: float) -> None:
        """Compare a message of the old connection with what the new one has sent."""
        if message.identity is None:
            return
        held = self._held.pop(message.identity, None)
        if self.phase == "overlap" and message.is_event:
            if held is not None:
                self._prove(now_mono_s)
            elif self._unmatched_mono_s is None:
                self._unmatched_mono_s = now_mono_s

    def _prove(self, now_mono_s: float) -> None:
        if self.phase == "overlap":
            self.proven = True
            self.phase = "afterwards"
            self._until_mono_s = now_mono_s + AFTERWARDS_S

    def _judge(self, now_mono_s: float) -> Step:
        """Without proof so far: whether the new connection works; also true where neither has anything to send."""
        ripe = []
        for key, (message, since_mono_s) in self._held.items():
            if now_mono_s < since_mono_s + LAG_S:
                break
            if message.is_evidence:
                return Step(self._release(), "gap", NOT_SHARED)
            ripe.append(key)
        words = tuple(self._held.pop(key)[0] for key in ripe)
        for message in words:
            self._remember(self._new, message)
        if self._unmatched_mono_s is not None and now_mono_s >= self._unmatched_mono_s + LAG_S:
            return self._give_up("silent")._replace(pass_on=words)
        if now_mono_s >= self._until_mono_s:
            if self._unmatched_mono_s is None and not any(message.is_evidence for message, _ in self._held.values()):
                replaced = self._replace(now_mono_s)
                return replaced._replace(pass_on=words + replaced.pass_on)
            self._until_mono_s = now_mono_s + LAG_S
        return Step(words)

    # Ends of an overlap

    def _replace(self, now_mono_s: float) -> Step:
        held = self._release()
        assert self._new is not None
        self._leading, self._new = self._new, None
        self.phase = "catching_up"
        self._until_mono_s = now_mono_s + CATCH_UP_S
        return Step(held, "replaced")

    def _give_up(self, reason: str) -> Step:
        """The old connection goes on, and sends what is held. So much is remembered as before: another try follows."""
        self._new = None
        self._held.clear()
        self.phase = "single"
        self._until_mono_s = math.inf
        return Step((), "given_up", reason)

    def _release(self) -> tuple[Message, ...]:
        """Wait no longer for the old connection to send what is held."""
        held = tuple(message for message, _ in self._held.values())
        self._held.clear()
        for message in held:
            self._remember(self._new, message)
        return held

    # Memory

    def _remember(self, connection: int | None, message: Message) -> None:
        if message.identity is not None and connection is not None:
            self._sent[message.identity] = (connection, message.is_event)
            self._forget()

    def _forget(self) -> None:
        while len(self._sent) > self._room:
            self._sent.popitem(last=False)
