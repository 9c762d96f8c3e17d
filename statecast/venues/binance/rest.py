"""Calls of Binance's REST interface: signed, counted, repeated, judged. Secrets do not leave here.

The listen key calls carry the API key in a header, nothing in the URL and no body, and the secret never leaves
`signing`. The URLs of signed calls end with a signature, which `statecast.venues.http` keeps out of the logs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import unquote

from statecast.clock import Clock
from statecast.errors import ConfigError, LimitReached, RateLimited, Rejected, VenueUnreachable
from statecast.secret import Secret
from statecast.venues.adapter import Waiting
from statecast.venues.binance import errors, snapshot, wire
from statecast.venues.binance.limits import WeightBudget
from statecast.venues.binance.signing import signed_query, signer
from statecast.venues.clock import ProbedClock
from statecast.venues.http import HttpClient, repeated, scrubbed

RECV_WINDOW_MS = 5000
"""The venue's default: a request that took longer on its way is refused."""

HISTORY_RESERVE = 250
"""What the reading of a gap's histories leaves of its share in every minute: for two snapshots, without which nothing
is live."""

NO_PARAMS: Mapping[str, str | int] = {}


class BinanceRest:
    """One account's calls. Answers are JSON; what is raised is a VenueError.

    VenueUnreachable: wait and call again. RateLimited: not before `retry_at_ms`; also raised, with nothing sent, when
    the weight that this minute allows is spent. Rejected: the call is wrong. AuthFailed: the operator must act (HTTP
    451, a restricted location, has the code 451).
    """

    def __init__(
        self,
        urls: wire.BinanceUrls,
        api_key: Secret,
        api_secret: Secret,
        clock: Clock,
        limits: WeightBudget,
        *,
        history_page: int = wire.HISTORY_PAGE,
    ) -> None:
        """Raises ConfigError for a key or secret that cannot be sent. Accounts behind one address share `limits`."""
        key = api_key.reveal()
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            raise ConfigError(
                "STATECAST_API_KEY", "***" if key else None, "the API key, letters and digits in one word"
            )
        self._urls = urls
        self._key = api_key
        self._secret = api_secret
        self._sign = signer(api_secret)
        self._machine_clock = clock
        self._listen_key = Secret("")
        self.limits = limits
        self.history_page = history_page
        self.clock = ProbedClock(
            clock, self._server_time_ms, venue=wire.VENUE, call=str(wire.TIME), error_ms=wire.CLOCK_ERROR_MS
        )
        self._http = HttpClient(wire.VENUE, urls.rest)

    async def aclose(self) -> None:
        """Close the connections. The listen key lives on: other programs use it."""
        await self._http.aclose()

    # The listen key

    async def create_listen_key(self) -> Secret:
        """The account's listen key, and its keepalive: valid for 60 minutes from this call.

        While one is alive the venue returns the same; a different one means that the old is dead and its socket silent.
        """
        self._listen_key = Secret(snapshot.listen_key(await self.read(wire.LISTEN_KEY_CREATE)))
        return self._listen_key

    async def delete_listen_key(self) -> None:
        """End the account's listen key, for every program that uses it. That it is gone already is no error."""
        try:
            await self._call(wire.LISTEN_KEY_DELETE)
        except Rejected as error:
            if error.code != errors.NO_SUCH_LISTEN_KEY:
                raise

    # Any call

    async def read(
        self, call: wire.Call, params: Mapping[str, str | int] = NO_PARAMS, *, absent: frozenset[int] = frozenset()
    ) -> object:
        """The JSON of a call that may be repeated: every GET, and the POST that returns the same listen key again. None
        for an HTTP status in `absent`. When the venue refuses its timestamp, it is asked once more by a corrected
        clock.
        """
        return await repeated(self._machine_clock, lambda: self._in_time(call, params, absent))

    async def read_when_allowed(
        self, call: wire.Call, params: Mapping[str, str | int], waiting: Waiting, *, paged: bool = True
    ) -> object:
        """A call that may wait: a history does not grow old, and what it leaves of the weight is for the snapshots."""
        if paged:
            params = {**params, "limit": self.history_page}
        while True:
            try:
                self.check_limits(str(call), call.weight, urgent=True, spare=HISTORY_RESERVE)
                return await self.read(call, params)
            except RateLimited as error:
                wait_s = max(1.0, (error.retry_at_ms - self.clock.now_ms()) / 1000)
            waiting(wait_s)
            await self._machine_clock.sleep(wait_s)

    def may_spend(self, weight: int) -> bool:
        """Whether so much weight may be spent now on what is not urgent."""
        return not self.limits.delay_ms(weight, self.clock.now_ms(), self._machine_clock.monotonic())

    def check_limits(self, what: str, weight: int, *, urgent: bool = False, spare: int = 0) -> None:
        """Raises LimitReached, with nothing sent, when `weight` cannot be spent now: half a snapshot would be worth
        nothing. `urgent` and `spare` as in `WeightBudget.delay_ms`."""
        now_ms, now_s = self.clock.now_ms(), self._machine_clock.monotonic()
        delay_ms = self.limits.delay_ms(weight, now_ms, now_s, urgent=urgent, spare=spare)
        if delay_ms:
            reason = f"not sent, the limits of the venue allow it in {delay_ms / 1000:.1f} s"
            raise LimitReached(wire.VENUE, what, reason, now_ms + delay_ms)

    async def _server_time_ms(self) -> int:
        return snapshot.server_time_ms(await self._call(wire.TIME))

    async def _in_time(self, call: wire.Call, params: Mapping[str, str | int], absent: frozenset[int]) -> object:
        reading = self.clock.reading
        try:
            return await self._call(call, params, absent)
        except Rejected as error:
            if error.code != errors.TIMESTAMP_REFUSED:
                raise
        try:
            await self.clock.correct(reading)
            return await self._call(call, params, absent)
        except Rejected as error:
            if error.code != errors.TIMESTAMP_REFUSED:
                raise
            raise VenueUnreachable(wire.VENUE, str(call), error.reason) from error  # Nothing is wrong with the call.

    async def _call(
        self,
        call: wire.Call,
        params: Mapping[str, str | int] = NO_PARAMS,
        absent: frozenset[int] = frozenset(),
    ) -> object:
        """One request; its JSON, or None for a status in `absent`."""
        self.check_limits(str(call), call.weight, urgent=True)  # What kind of question it is of, its asker has checked.
        base = self._urls.sapi if call is wire.API_RESTRICTIONS else self._urls.rest
        sent_ms = self.clock.now_ms()
        query = signed_query(params, sent_ms, RECV_WINDOW_MS, self._sign) if call.security == "signed" else ""
        headers = {} if call.security == "none" else {"X-MBX-APIKEY": self._key.reveal()}
        self.limits.spend(call.weight, sent_ms)
        answer = await self._http.send(str(call), call.method, base + call.path, query, headers=headers)
        now_ms = self.clock.now_ms()
        # The limits of another host are its own affair.
        is_counted = base == self._urls.rest
        if is_counted:
            self.limits.observe(answer.headers.get("x-mbx-used-weight-1m"), sent_ms, now_ms)
        if answer.status in absent:
            return None
        try:
            clock_known = self.clock.reading is not None
            return errors.judged(str(call), answer, now_ms, clock_known=clock_known, scrub=self._scrubber(query))
        except errors.Silence as error:
            if is_counted:
                self.limits.block(self._machine_clock.monotonic() + (error.retry_at_ms - now_ms) / 1000)
            raise

    def _scrubber(self, query: str) -> Callable[[str], str]:
        signature = unquote(query.rpartition("&signature=")[2])
        secrets = (signature, self._secret.reveal(), self._key.reveal(), self._listen_key.reveal())
        return lambda text: scrubbed(text, secrets)
