"""One request to a receiver, and what its answer means."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import aiohttp
from yarl import URL

import crucible
from crucible.webhooks.connector import AddressRefused, check_literal
from crucible.webhooks.schedule import retry_after_s
from crucible.webhooks.signing import headers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.webhooks.addresses import AddressPolicy

#: Bytes of an answer's body that are read, for the log, and seconds spent on them.
MAX_ANSWER_BYTES, BODY_S = 1024, 1.0
GONE = 410


@dataclass(frozen=True, slots=True)
class Answer:
    """How a receiver answered one attempt.

    Attributes:
        status: HTTP status; None where there was no answer.
        detail: what went wrong, or the beginning of the answer's body; for people.
        duration_ms: milliseconds it took.
        retry_after_s: seconds the receiver asks to wait.
        refused: its address may not be called.
    """

    status: int | None
    detail: str
    duration_ms: int
    retry_after_s: float = 0.0
    refused: bool = False

    @property
    def accepted(self) -> bool:
        """Whether the receiver has it. A redirect is a failure: it is not followed."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def gone(self) -> bool:
        """Whether the receiver wants no more."""
        return self.status == GONE

    @property
    def ill(self) -> bool:
        """Whether the failure says that the host is not well, rather than what it thinks of it."""
        return self.status is None or self.status >= 500 or self.status == 429


class Sender:
    """Makes requests to receivers.

    Args:
        session: from ``connector.open_session``.
        policy: says which addresses may be called.
        timeout_s: seconds one request may take from the first look at its name on.
    """

    def __init__(
        self, session: aiohttp.ClientSession, policy: AddressPolicy, timeout_s: float
    ) -> None:
        self._session = session
        self._policy = policy
        self._timeout_s = timeout_s

    async def send(
        self,
        url: str,
        secrets: Sequence[str],
        delivery_id: str,
        body: bytes,
        method: str = "POST",
    ) -> Answer:
        """Send a body once."""
        started_s = time.monotonic()
        signed = headers(secrets, delivery_id, int(time.time()), body)
        try:
            async with asyncio.timeout(self._timeout_s):
                status, said, wait_s = await self._ask(method, url, signed, body)
        except AddressRefused as error:
            return Answer(None, str(error), _ms_since(started_s), refused=True)
        except TimeoutError:
            detail = f"no whole answer within {self._timeout_s:g} s"
            return Answer(None, detail, _ms_since(started_s))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            refused = _refusal_in(error)
            detail = str(refused or error)[:MAX_ANSWER_BYTES] or type(error).__name__
            return Answer(None, detail, _ms_since(started_s), refused=refused is not None)
        return Answer(status, said, _ms_since(started_s), wait_s)

    async def _ask(
        self, method: str, url: str, signed: dict[str, str], body: bytes
    ) -> tuple[int, str, float]:
        target = URL(url)
        check_literal(self._policy, target)
        async with self._session.request(
            method,
            target,
            data=body,
            headers={
                "Content-Type": "application/json",
                "User-Agent": f"crucible/{crucible.__version__}",
                **signed,
            },
            allow_redirects=False,
        ) as response:
            wait_s = retry_after_s(response.headers.get("Retry-After"), datetime.now(UTC))
            said = await _beginning_of(response)
            return response.status, said.decode(errors="replace"), wait_s


async def _beginning_of(response: aiohttp.ClientResponse) -> bytes:
    """Some of an answer's body, which may go on for ever: its status is what counts."""
    said = b""
    with suppress(TimeoutError, aiohttp.ClientError):
        async with asyncio.timeout(BODY_S):
            while len(said) < MAX_ANSWER_BYTES and (chunk := await response.content.readany()):
                said += chunk
    response.close()
    return said[:MAX_ANSWER_BYTES]


def _refusal_in(error: BaseException | None) -> AddressRefused | None:
    """The refusal that an error of aiohttp comes from; it wraps what its resolver raises."""
    while error is not None:
        if isinstance(error, AddressRefused):
            return error
        error = error.__cause__ or error.__context__
    return None


def _ms_since(started_s: float) -> int:
    return round((time.monotonic() - started_s) * 1000)
