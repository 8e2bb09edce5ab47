"""Requests to the API over one pool of connections, sent again where that is safe."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import aiohttp
import msgspec
from yarl import URL

from crucible.client.retrying import BUSY, Patience, seconds_asked
from crucible.errors import ApiError, ApiRefused, ApiUnreached

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from types import TracebackType

#: Seconds an answer may take on top of what the request waits for.
ANSWER_S = 10.0
#: Where the key of a client comes from that is given none.
KEY_VARIABLE = "CRUCIBLE_API_KEY"


class Answer(NamedTuple):
    """An answer of the API below 400.

    Attributes:
        status: HTTP status.
        content: the body.
    """

    status: int
    content: bytes


class Transport:
    """The way to one API; an async context manager.

    Args:
        url: where the API is.
        key: API key; None takes ``CRUCIBLE_API_KEY``, and sends none where that is not set.
        retry_for_s: seconds for which a request is sent again while the API is away or busy.

    Raises:
        ApiError: ``url`` is no address.
    """

    def __init__(self, url: str, key: str | None, retry_for_s: float) -> None:
        self.url = url.rstrip("/")
        self.retry_for_s = retry_for_s
        try:
            parsed = URL(self.url)
        except ValueError as error:
            raise ApiError(f"{url} is not the address of an API: {error}") from None
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ApiError(f"{url} is not the address of an API: it must begin with http://")
        key = os.environ.get(KEY_VARIABLE) if key is None else key
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"Transport({self.url!r})"

    async def __aenter__(self) -> Self:
        # Callers bound how much is under way; a second bound here would only hide it.
        connector = aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(connector=connector, headers=self._headers)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def ask(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        wait_s: float = 0,
    ) -> Answer:
        """The answer to a request that may be sent more than once.

        Args:
            method: of HTTP.
            path: with its query, quoted.
            body: JSON, or what ``headers`` call it.
            headers: further header fields.
            wait_s: seconds the API may take before it answers.

        Raises:
            ApiUnreached: it did not answer in ``retry_for_s`` seconds.
            ApiRefused: it answered with an error; one that passes lasted that long.
        """
        patience = Patience(time.monotonic() + self.retry_for_s)
        while True:
            failure: ApiError
            try:
                async with self.sent(
                    method, path, body=body, headers=headers, wait_s=wait_s
                ) as response:
                    return Answer(response.status, await response.read())
            except ApiRefused as error:
                if error.status not in BUSY:
                    raise
                failure, asked_s = error, error.retry_after_s
            except (aiohttp.ClientError, TimeoutError) as error:
                reason = str(error) or type(error).__name__
                failure = ApiUnreached(f"the API at {self.url} does not answer: {reason}")
                asked_s = None
            pause_s = patience.next_pause(time.monotonic(), asked_s)
            if pause_s is None:
                raise failure
            await asyncio.sleep(pause_s)

    @asynccontextmanager
    async def sent(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        wait_s: float | None = 0,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request, and its answer as it arrives; it is not sent again.

        Args:
            method: of HTTP.
            path: with its query, quoted.
            body: as of ``ask``.
            headers: further header fields.
            wait_s: seconds between two parts of the answer on top of ``ANSWER_S``.

        Raises:
            ApiRefused: the API answered with an error.
            aiohttp.ClientError: it did not answer, or hung up.
            TimeoutError: it was silent for too long.
        """
        if self._session is None:
            raise RuntimeError("the client is not open; use it in an async with block")
        silent_s = None if wait_s is None else wait_s + ANSWER_S
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=ANSWER_S, sock_read=silent_s)
        fields = dict(headers or {})
        if body is not None:
            fields.setdefault("Content-Type", "application/json")
        # Encoded: the path must arrive as it was quoted.
        address = URL(self.url + path, encoded=True)
        async with self._session.request(
            method, address, data=body, headers=fields, timeout=timeout
        ) as response:
            if response.status >= 400:
                raise await refused(response)
            yield response


async def refused(response: aiohttp.ClientResponse) -> ApiRefused:
    """An answer of 400 or more as an error."""
    content = await response.read()
    try:
        problem = msgspec.json.decode(content, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        problem = {"title": f"the API answered {response.status} with something that is not JSON"}
    return ApiRefused(response.status, problem, seconds_asked(response.headers.get("Retry-After")))
