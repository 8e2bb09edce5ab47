"""A client of a tenant: submits until it is accepted, and keeps a ledger of it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import aiohttp

from benchmarks.chaos.service.ledger import CANCELLED, OK, WRONG, Asked, Ledger, Suite, run_id

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

#: Seconds between attempts, for one of them, and for all of one request.
AGAIN_S, _ONE_S, _ALL_S = 0.3, 5.0, 180.0
_BATCH = 5
_CANCELLED_SLEEPS_S = 3
#: Bytes of a large output: more than ``CRUCIBLE_OBJECT_THRESHOLD_KB``.
_LARGE = 100_000
#: Answers after which the same is asked again.
_LATER = (0, 429, 502, 503, 504)


class Client:
    """One client.

    Args:
        base: the address of the api.
        headers: with its key.
        tenant: of the key.
        receiver: URL for webhooks.
        chosen: its random numbers.

    Attributes:
        ledger: what was accepted.
        requests: how many of its turns are over.
        keeps: assessments that are kept when it makes another one; None for all.
    """

    def __init__(
        self, base: str, headers: Mapping[str, str], tenant: str, receiver: str,
        chosen: random.Random,
    ) -> None:  # fmt: skip
        self.ledger = Ledger(tenant)
        self.requests = 0
        self.keeps: int | None = None
        self._base = base
        self._headers = headers
        self._receiver = receiver
        self._chosen = chosen
        self._number = 0

    async def load(self, pause_s: float, stop: asyncio.Event) -> None:
        """One request after the other, with pauses in between, until ``stop`` is set."""
        does = (
            self._plain, self._graded, self._batch, self._cancelled, self._assessment, self._large
        )  # fmt: skip
        while not stop.is_set():
            (do,) = self._chosen.choices(does, (32, 18, 15, 18, 9, 8))
            await do()
            self.requests += 1
            try:
                async with asyncio.timeout(pause_s * self._chosen.uniform(0.5, 1.5)):
                    await stop.wait()
            except TimeoutError:
                continue

    def session(self) -> aiohttp.ClientSession:
        """A session with its key."""
        timeout = aiohttp.ClientTimeout(total=_ONE_S)
        return aiohttp.ClientSession(self._base, timeout=timeout, headers=self._headers)

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Ask until there is an answer other than "later"; status 0 when there is none at all."""
        status, answer = 0, None
        until = time.monotonic() + _ALL_S
        async with self.session() as session:
            while time.monotonic() < until:
                try:
                    async with session.request(method, path, json=body) as response:
                        status = response.status
                        answer = await response.json(content_type=None)
                except (aiohttp.ClientError, TimeoutError, ValueError):
                    status, answer = 0, None
                if status not in _LATER:
                    break
                await asyncio.sleep(AGAIN_S)
        return status, answer

    async def whole_output(self, shown: dict[str, Any]) -> str:
        """The output of an evaluation, from its result or from the object store."""
        if not (href := shown.get("output_href")):
            return str(shown.get("output"))
        until = time.monotonic() + _ALL_S
        async with self.session() as session:
            while True:
                try:
                    async with session.get(href) as response:
                        if response.status not in _LATER or time.monotonic() > until:
                            return await response.text()
                except (aiohttp.ClientError, TimeoutError):
                    if time.monotonic() > until:
                        raise
                await asyncio.sleep(AGAIN_S)

    def _id(self) -> str:
        self._number += 1
        return f"{self.ledger.tenant}-{self._number}"

    async def _submit(self, asked: Asked, **body: Any) -> str:
        eval_id = self._id()
        if self._chosen.random() < 0.5:
            asked.webhook = True
            body["webhook_url"] = self._receiver
        status, answer = await self.ask("POST", "/api/eval", {"eval_id": eval_id, **body})
        if status in (200, 202):
            asked.at = time.time()
            self.ledger.asked[eval_id] = asked
            return eval_id
        self.ledger.refused.append(f"{eval_id}: {status} {answer}")
        return ""

    async def _plain(self) -> None:
        word = f"word {self._number}"
        if self._chosen.random() < 0.25:
            asked = Asked("failing", (("completed", "nonzero_exit"),), f"{word}\n")
            await self._submit(asked, code=f"print({word!r}); raise SystemExit(3)")
        else:
            await self._submit(Asked("plain", (OK,), f"{word}\n"), code=f"print({word!r})")

    async def _large(self) -> None:
        """Its output is an object, or in its result where the store does not answer."""
        asked = Asked("large", (OK,), f"{'x' * _LARGE}\n")
        await self._submit(asked, code=f"print('x' * {_LARGE})")

    async def _graded(self) -> None:
        wrong = self._chosen.random() < 0.3
        tests = [{"stdin": f"{n}\n", "expected": f"{n * n}\n"} for n in range(2, 8)]
        if wrong:
            tests[-1]["expected"] = "0\n"
        end = WRONG if wrong else ("completed", "accepted")
        await self._submit(Asked("graded", (end,)), code="print(int(input()) ** 2)", tests=tests)

    async def _batch(self) -> None:
        ids = [self._id() for _ in range(_BATCH)]
        items = [{"eval_id": one, "code": f"print({one!r})"} for one in ids]
        todo = set(ids)
        until = time.monotonic() + _ALL_S
        while todo and time.monotonic() < until:
            status, answer = await self.ask("POST", "/api/eval/batch", items)
            if status not in (200, 202):
                self.ledger.refused.append(f"batch of {ids[0]}: {status} {answer}")
                return
            for one, item in zip(ids, answer["items"], strict=True):
                if one in todo and item["status"] != "rejected":
                    todo.discard(one)
                    self.ledger.asked[one] = Asked("batch", (OK,), f"{one}\n", at=time.time())
            if todo:
                await asyncio.sleep(AGAIN_S)
        if todo:
            self.ledger.refused.append(f"items {sorted(todo)}: not accepted in time")

    async def _cancelled(self) -> None:
        asked = Asked("cancelled", (OK, CANCELLED))
        code = f"import time; time.sleep({_CANCELLED_SLEEPS_S})"
        eval_id = await self._submit(asked, code=code)
        if not eval_id:
            return
        await asyncio.sleep(self._chosen.uniform(0, 1.0))
        status, answer = await self.ask("DELETE", f"/api/eval/{eval_id}")
        # 409 where it has ended.
        if status not in (200, 202, 409):
            self.ledger.refused.append(f"DELETE {eval_id}: {status} {answer}")

    async def _assessment(self) -> None:
        while self.keeps is not None and len(self.ledger.suites) > self.keeps:
            if not await self._purged(next(iter(self.ledger.suites))):
                break
        name = self._id()
        cases = [
            {"code": "print('hello')"},
            {"code": "print(int(input()) + 1)", "tests": [{"stdin": "1\n", "expected": "2\n"}],
             "repetitions": 2},
            {"code": "raise SystemExit(1)"},
        ]  # fmt: skip
        body = {"name": name, "assessment_id": name, "cases": cases}
        status, answer = await self.ask("POST", "/api/v1/assessments", body)
        if status in (200, 201):
            status, answer = await self.ask("POST", f"/api/v1/assessments/{name}/start")
        if status not in (200, 202):
            self.ledger.refused.append(f"assessment {name}: {status} {answer}")
            return
        self.ledger.suites[name] = Suite(runs=4, passed_cases=2)
        ends = (OK, ("completed", "accepted"), ("completed", "accepted"))
        for number, end in enumerate((*ends, ("completed", "nonzero_exit"))):
            self.ledger.asked[run_id(name, number)] = Asked("run", (end,), at=time.time())

    async def _purged(self, name: str) -> bool:
        """Have an assessment deleted; False where it has not ended."""
        status, answer = await self.ask("DELETE", f"/api/v1/assessments/{name}?purge=true")
        # 404: the answer to an earlier request was lost.
        if status in (200, 404):
            del self.ledger.suites[name]
        elif status != 409:
            self.ledger.refused.append(f"purge of {name}: {status} {answer}")
        return status in (200, 404)
