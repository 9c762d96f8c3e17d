"""REST over httpx, for every venue: the only module that knows httpx. Its errors leave here as ours.

httpx keeps the request in its exceptions, not in their text; its exceptions are chained as they are, but their text is
not part of ours: it may quote what the server sent. A signed URL holds the signature, and httpx logs every URL at INFO:
a filter on its logger cuts the query off (httpcore and h11 log no URL and no request header).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import NamedTuple, TypeVar
from urllib.parse import quote, urlsplit

import anyio
import httpx
import orjson
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from statecast.clock import Clock
from statecast.errors import VenueUnreachable

TIMEOUT_S = 10.0
"""Of one whole call, unless a venue says otherwise."""

CONNECT_TIMEOUT_S = 5.0

MAX_REASON_LENGTH = 200
"""Of a server's text in an error."""

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})

T = TypeVar("T")

NO_HEADERS: Mapping[str, str] = {}


class Answer(NamedTuple):
    """What the server answered. `document` is its JSON, None where `is_json` is false. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    document: object
    is_json: bool

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    def date_ms(self, default_ms: int) -> int:
        """The `Date` header in milliseconds, to the second; the default where there is none that makes sense."""
        try:
            return round(parsedate_to_datetime(self.headers.get("date", "")).timestamp() * 1000)
        except (ValueError, OverflowError):
            return default_ms


class HttpClient:
    """The connections to one venue's REST hosts. `base_url` is the host that is asked the most."""

    def __init__(self, venue: str, base_url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self._venue = venue
        self._timeout_s = timeout_s
        logging.getLogger("httpx").addFilter(_without_query)  # adding it again does nothing
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S),
            # A simulated exchange at home is not behind the proxy that the environment names.
            trust_env=urlsplit(base_url).hostname not in LOOPBACK_HOSTS,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def send(
        self,
        call: str,
        method: str,
        url: str,
        query: str = "",
        *,
        headers: Mapping[str, str] = NO_HEADERS,
        body: bytes | None = None,
    ) -> Answer:
        """One request. `query` is sent as it is, percent-encoded by the caller: a signature may depend on its bytes.
        `call` names the request in errors, without secrets.

        Raises VenueUnreachable where no answer comes in time.
        """
        request = self._client.build_request(
            method, url + (f"?{query}" if query else ""), headers=dict(headers), content=body
        )
        assert request.url.query == query.encode(), "what is signed must be what is sent"
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._send(request)
        except TimeoutError as error:
            raise VenueUnreachable(self._venue, call, f"no answer within {self._timeout_s:g} s") from error
        except httpx.HTTPError as error:
            raise VenueUnreachable(self._venue, call, f"no answer ({type(error).__name__})") from error
        try:
            document, is_json = orjson.loads(response.content), True
        except orjson.JSONDecodeError:
            document, is_json = None, False
        return Answer(response.status_code, response.headers, document, is_json)

    async def _send(self, request: httpx.Request) -> httpx.Response:
        """The answer; when this is cancelled, httpcore cleans up first.

        It shields its cleaning up from anyio's cancellations alone. One of asyncio's, in the middle of it, loses
        connections: they stay open, or fill the pool permanently (encode/httpcore#1093). So it sees anyio's only.
        """
        scope = anyio.CancelScope()

        async def send() -> httpx.Response | None:
            with scope:
                return await self._client.send(request)
            return None

        sending = asyncio.create_task(send())
        try:
            await asyncio.wait((sending,))
        except asyncio.CancelledError:
            scope.cancel()
            while not sending.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait((sending,))
            if not sending.cancelled():
                sending.exception()  # looked at, or asyncio would log it
            raise
        response = sending.result()
        assert response is not None, "nobody else cancels the scope"
        return response


def scrubbed(text: str, secrets: Iterable[str]) -> str:
    """A text of the server for an error: short, one line, without what was sent in confidence."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***").replace(quote(secret, safe=""), "***")
    return "".join(c for c in text[:MAX_REASON_LENGTH] if c.isprintable())


async def repeated(clock: Clock, ask: Callable[[], Awaitable[T]]) -> T:
    """The result of `ask`, which is called three times at the most where the venue is unreachable: for calls that may
    be repeated. Beyond that the caller decides."""

    async def once() -> T:  # tenacity awaits what is declared as a coroutine function alone
        return await ask()

    return await AsyncRetrying(
        sleep=clock.sleep,
        wait=wait_exponential(multiplier=0.25, max=2),  # 0.25 s, 0.5 s
        stop=stop_after_attempt(3),
        retry=retry_if_exception_type(VenueUnreachable),
        reraise=True,
    )(once)


async def all_of(calls: Iterable[Coroutine[object, None, T]]) -> list[T]:
    """All results, or the first error; the others are cancelled then: nothing is sent after this has ended."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _WithoutQuery(logging.Filter):
    """Takes the query from the URLs that httpx logs."""

    def filter(self, record: logging.LogRecord) -> bool:
        if type(record.args) is tuple:
            record.args = tuple(arg.copy_with(query=None) if isinstance(arg, httpx.URL) else arg for arg in record.args)
        return True


_without_query = _WithoutQuery()
