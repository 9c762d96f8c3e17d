"""REST beside a living stream: what no event carries, and whether the stream has told everything.

A stream that is open and mute looks like an account on which nothing happens. Only the venue's own answer tells them
apart: every period everything is compared, soon after changes what they have moved is asked for. The first difference
ends the belief in the state at once; the stream may explain it, or another answer a second later. What neither has
explained after the grace is drift: the stream is at an end, and the account is read anew on a new connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import islice
from random import Random

from publisher.committer import Committer
from publisher.discrepancies import GRACE_S, Discrepancies, describe
from publisher.logs import Log
from statecast.clock import Clock
from statecast.domain.account import Account
from statecast.domain.changes import Check
from statecast.domain.event_ids import algo_id
from statecast.errors import AuthFailed, FrameError, RateLimited, VenueError
from statecast.venues.adapter import FIGURES_ONLY, CheckScope, StreamEnded
from statecast.venues.binance.rest import BinanceRest

SETTLE_S = 0.25
"""After a change, before REST is asked for what the change has moved: a burst costs one question."""

PAUSE_S = 2.0
"""Between two such questions: 10 of the venue's 2,400 weight a minute each, so at most an eighth of it."""

EARLIEST = 0.75
LATEST = 0.95
"""Of the period, when everything is compared again: never later than that, the way of the answer included."""

EVERYTHING_PAUSE_S = 5.0
"""Between two comparisons of everything, however short the period is. Each weighs 115, with the default period up to
185 for conditional orders, and 5 more for each further thousand orders that were placed."""

STANDBY_PAUSE_S = 60.0
"""The same for a publisher that stands by: it shares an IP address with the writer, and compares when it takes over."""

RECHECK_S = 1.0
"""After a difference."""

STEP_S = 0.05
"""How often it is looked whether something is due, or the stream has explained a difference."""

RETRY_S = 5.0
LONGEST_RETRY_S = 20.0
"""After a question that failed; doubled with each that follows."""

SYMBOL_S = 5.0
LEAST_SYMBOLS = 2
"""Conditional orders that came and went are listed by symbol alone, 5 of weight each. So of one symbol for each so many
seconds of the period they are asked for with everything else, by turns: each minute of 12, or 60 of weight."""

MAX_TRIGGERED = 20
"""Conditional orders that were triggered are listed by the time of their placing alone, which may be long ago. So many
whose ordinary order is over are asked for one by one, by turns, a weight of one each: were they finished unheard?"""

OVERLAP_MS = 2_000
"""Orders are asked for from this long before the last question on, for REST may lag."""


class Drift(StreamEnded):
    """The venue says otherwise than the stream, which has not explained it within the grace."""


class Reconciler:
    """Compares one account with the venue; `run` while there is a stream."""

    def __init__(
        self,
        rest: BinanceRest,
        account: Account,
        committer: Committer,
        clock: Clock,
        rng: Random,
        log: Log,
        *,
        period_s: float,
        apply: Callable[[Check], object],
        agreed: Callable[[int], None],
        following: Callable[[], bool],
        incomplete: Callable[[str], None],
    ) -> None:
        """`apply` takes an answer into the account, `agreed` is told the venue time of an answer to which everything
        agrees, and `following` says whether the account follows the stream: otherwise there is nothing to compare.
        `incomplete` is called where the log lacks something, and nothing else shows that the stream does not work."""
        self._rest = rest
        self._account = account
        self._committer = committer
        self._clock = clock
        self._rng = rng
        self._log = log
        self._period_s = period_s
        self._apply = apply
        self._agreed = agreed
        self._following = following
        self._incomplete = incomplete
        self._discrepancies = Discrepancies()
        self._moved = False
        self._asked_at = 0.0
        self._everything_at = 0.0
        self._everything_due_at = 0.0
        self._believed_until = 0.0
        self._orders_since_ms = 0
        self._conditional_since_ms: dict[str, int] = {}
        """By symbol; the one that was asked for longest ago comes first."""
        self._triggered_turn = 0
        self._not_before = 0.0
        self._retry_s = RETRY_S
        self._trouble = "no answer yet"
        self._compared: tuple[float, Check] | None = None
        """The last answer to the question for everything, and when that was asked in monotonic time, where it was not
        yet found to agree with the account."""
        self._in_doubt = False
        """Whether readers were told of a doubt that arose here."""

    @property
    def _everything_s(self) -> float:
        """The period in which everything is compared."""
        return max(self._period_s, STANDBY_PAUSE_S if self._committer.is_standby else EVERYTHING_PAUSE_S)

    def moved(self) -> None:
        """Something has changed: what no event carries of it is asked for soon."""
        self._moved = True

    def due(self) -> None:
        """Something is doubtful: everything is compared as soon as the weight allows it."""
        self._everything_due_at = 0.0

    def concerns(self, symbol: str) -> None:
        """The account trades in it: conditional orders may come and go there."""
        self._conditional_since_ms.setdefault(symbol, self._orders_since_ms)

    def begins(self, asked_at: float, orders_since_ms: int, symbols: Iterable[str]) -> None:
        """The account was read whole, asked for at that monotonic time, and follows the stream from here on. Orders
        created until that venue time have been told, conditional ones in those symbols."""
        self._discrepancies = Discrepancies()
        self._compared = None
        self._in_doubt = False
        self._orders_since_ms = orders_since_ms
        self._conditional_since_ms = dict.fromkeys(sorted(symbols), orders_since_ms)
        self._asked_at = self._everything_at = asked_at
        self._believe(asked_at)

    def take(self, answer: Check, asked_at: float) -> None:
        """Compare an answer to a question of that monotonic time.

        Raises FrameError for amounts beyond reckoning.
        """
        self._apply(answer)
        self._discrepancies.take(self._account, answer, self._clock.monotonic())
        everything = answer.multi_assets is not None and answer.order_symbols is None
        if everything:
            self._compared = asked_at, replace(answer, created=())
        self._settle()

    def _settle(self) -> None:
        """Say what the last answers, and what the stream has explained of them by now, give grounds for."""
        if self._discrepancies.doubtful:
            self._committer.verified_until = 0.0
        elif self._compared is not None:
            (asked_at, answer), self._compared = self._compared, None
            self._committer.health.reconciled_at_ms = self._clock.now_ms()
            if not self._discrepancies.of_history:
                self._orders_since_ms = max(self._orders_since_ms, answer.created_until_ms - OVERLAP_MS)
                for symbol, until_ms in answer.conditional_until_ms.items():
                    self._conditional_since_ms.pop(symbol, None)
                    self._conditional_since_ms[symbol] = until_ms - OVERLAP_MS
                # Of conditional orders the log tells everything until the turn of the symbol that waits the longest.
                oldest_ms = min((self._orders_since_ms, *self._conditional_since_ms.values()))
                self._agreed(min(answer.taken_ms, oldest_ms + OVERLAP_MS))
            self._believe(asked_at)
        else:
            self._committer.verified_until = self._believed_until
        self._tell_state()

    async def run(self) -> None:
        """Ask and compare until the stream is found to have missed something: StreamEnded; or AuthFailed."""
        self._moved = False
        while True:
            scope = await self._next_question()
            self._asked_at = self._clock.monotonic()
            if scope.order_symbols is None:
                self._everything_at = self._asked_at
            try:
                answer = await self._rest.fetch_check(scope)
            except AuthFailed:
                raise
            except (VenueError, FrameError) as error:
                self._log.warning("refresh_failed", reason=str(error))
                self._put_off(error)
                continue
            self._retry_s = RETRY_S
            if not self._following():
                continue
            self.take(answer, self._asked_at)
            now = self._clock.monotonic()
            if incomplete := self._discrepancies.only_beginnings(now):
                self._incomplete(f"not told how it began: {describe(incomplete)}")
                continue
            if drift := self._discrepancies.unexplained(now):
                self._committer.health.drifts += 1
                self._log.warning("drift", differences=describe(drift))
                raise Drift("drift from the venue: " + describe(drift))

    def _everything(self) -> CheckScope:
        """Nobody misses yet what one that stands by has not heard."""
        if self._committer.is_standby:
            return CheckScope(None, True, self._orders_since_ms)
        count = max(LEAST_SYMBOLS, int(self._everything_s / SYMBOL_S))
        by_symbol = tuple(islice(self._conditional_since_ms.items(), count))
        return CheckScope(None, True, self._orders_since_ms, by_symbol, tuple(self._triggered()))

    def _triggered(self) -> list[str]:
        """Conditional orders that should be finished."""
        ids = [algo_id(key.order_id) for key in self._account.triggered_without_order()]
        start = self._triggered_turn % len(ids) if len(ids) > MAX_TRIGGERED else 0
        self._triggered_turn = start + MAX_TRIGGERED
        return (ids[start:] + ids[:start])[:MAX_TRIGGERED]

    async def _next_question(self) -> CheckScope:
        """Wait until something is due, and say what."""
        while True:
            await self._clock.sleep(STEP_S)
            now = self._clock.monotonic()
            if not self._following():
                self._moved = False
                continue
            if self._discrepancies:
                self._explain()
            if now > self._believed_until and not self._in_doubt:
                self._in_doubt = True
                self._committer.move("doubt", f"not compared with the venue for too long: {self._trouble}")
            if now < self._not_before:
                continue
            if now >= max(self._everything_due_at, self._everything_at + EVERYTHING_PAUSE_S):
                return self._everything()
            if self._discrepancies and now >= self._asked_at + RECHECK_S:
                symbols = self._discrepancies.order_symbols
                if symbols is not None:
                    return CheckScope(symbols, self._discrepancies.settings)
                if now >= self._everything_at + EVERYTHING_PAUSE_S:
                    return self._everything()
                continue
            # Nobody reads what one knows that stands by.
            if self._moved and not self._committer.is_standby and now >= self._asked_at + PAUSE_S:
                await self._clock.sleep(SETTLE_S)
                self._moved = False
                return FIGURES_ONLY
            if not self._committer.is_standby and now >= self._asked_at + max(self._period_s * LATEST, PAUSE_S):
                return FIGURES_ONLY

    def _explain(self) -> None:
        self._discrepancies.explain(self._account)
        if not self._discrepancies.doubtful:
            self._settle()

    def _believe(self, asked_at: float) -> None:
        """The state was true when the venue was asked; until the next comparison is overdue it is believed to be."""
        self._everything_due_at = asked_at + self._everything_s * self._rng.uniform(EARLIEST, LATEST)
        self._believed_until = self._committer.verified_until = asked_at + self._everything_s + GRACE_S

    def _tell_state(self) -> None:
        """Readers see `recovering` where a difference outlasts a second answer, and `live` when it is gone."""
        overdue = self._clock.monotonic() > self._believed_until
        if self._discrepancies.repeated:
            self._in_doubt = True
            self._committer.move("doubt", f"the venue says otherwise: {self._discrepancies}")
        elif self._in_doubt and not self._discrepancies.doubtful and not overdue:
            self._in_doubt = False
            self._committer.move("reconciled", "the venue agrees")

    def _put_off(self, error: VenueError | FrameError) -> None:
        """Everything is compared once the venue may be asked again."""
        wait_s, self._retry_s = self._retry_s, min(2 * self._retry_s, LONGEST_RETRY_S)
        if isinstance(error, RateLimited):
            wait_s = max(1.0, (error.retry_at_ms - self._rest.venue_now_ms()) / 1000)
        self._trouble = str(error)
        self._not_before = self._clock.monotonic() + wait_s
        self.due()
