"""The client for asyncio programs."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sized
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Self, Unpack

import msgspec

from crucible.client import sessions
from crucible.client.event_stream import followed
from crucible.client.models import BatchItem, Completed, Event, Resync, Submitted
from crucible.client.progress import reported
from crucible.client.requests import has_id, path_of, query_of, request_of
from crucible.client.transport import Answer, Transport
from crucible.client.window import in_window
from crucible.errors import ApiError
from crucible.models import ENDED, Evaluation

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping, Sequence
    from types import TracebackType

    from crucible.client.progress import OnProgress
    from crucible.client.requests import ProgramOptions, ProgramRequest
    from crucible.client.sessions import CellResult, SessionOptions, SessionShown

DEFAULT_URL = "http://127.0.0.1:8000"
#: Seconds for which a request is sent again while the API is away or busy.
RETRY_FOR_S = 60.0
#: Seconds one request waits for an evaluation to end before the next one is sent.
WAIT_SLICE_S = 20.0
#: Programs that ``map`` has under way at once.
WINDOW = 64
#: Programs the API takes in one batch.
BATCH_SIZE = 10_000
#: Evaluations of one page of a list.
PAGE_SIZE = 500


class AsyncCrucible:
    """A client of the HTTP API; an async context manager.

    What can be sent twice without harm is: a submission carries an id by which the API knows it
    again. So restarts of the API and of the queue server are waited out.

    Args:
        url: where the API is.
        key: API key; None takes the environment's ``CRUCIBLE_API_KEY``.
        retry_for_s: seconds for which a request is sent again while the API is away or busy.

    Raises:
        ApiError: ``url`` is no address.
    """

    def __init__(
        self, url: str = DEFAULT_URL, key: str | None = None, *, retry_for_s: float = RETRY_FOR_S
    ) -> None:
        self._transport = Transport(url, key, retry_for_s)

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._transport.__aexit__(kind, error, traceback)

    async def run(
        self, code: str, *, timeout: float | None = None, **options: Unpack[ProgramOptions]
    ) -> Evaluation:
        """Run a program, and return it once it has ended.

        Args:
            code: source text.
            timeout: seconds to wait; the evaluation goes on after that.
            options: what comes with it, such as ``language`` and ``stdin``.

        Raises:
            ApiError: it was refused, or the API does not answer.
            TimeoutError: it has not ended in time.
        """
        return await self._ended(code, options, timeout)

    async def submit(self, code: str, **options: Unpack[ProgramOptions]) -> Submitted:
        """Queue a program.

        Args:
            code: source text.
            options: what comes with it.

        Raises:
            ApiError: it was refused, or the API does not answer.
        """
        answer = await self._post("/api/eval", code, options)
        return msgspec.json.decode(answer.content, type=Submitted)

    async def get(self, eval_id: str) -> Evaluation:
        """What is known of an evaluation.

        Args:
            eval_id: its id.

        Raises:
            ApiError: there is none, or the API does not answer.
        """
        return _evaluation(await self._transport.ask("GET", path_of(eval_id)))

    async def wait(self, eval_id: str, timeout: float | None = None) -> Evaluation:
        """An evaluation once it has ended.

        Args:
            eval_id: its id.
            timeout: seconds to wait at most.

        Raises:
            ApiError: there is none, or the API does not answer.
            TimeoutError: it has not ended in time.
        """
        return await self._wait(eval_id, _deadline(timeout))

    async def cancel(self, eval_id: str) -> Evaluation:
        """Keep an evaluation from running, or stop it; one that has ended stays as it is.

        Args:
            eval_id: its id.

        Raises:
            ApiError: there is none, or the API does not answer.
        """
        return _evaluation(await self._transport.ask("DELETE", path_of(eval_id)))

    async def retry(self, eval_id: str) -> Submitted:
        """Run the same program once more.

        Args:
            eval_id: of an evaluation that has ended.

        Raises:
            ApiError: there is none, it cannot be run again, or the API does not answer.
        """
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        answer = await self._transport.ask("POST", f"{path_of(eval_id)}/retry", headers=headers)
        return msgspec.json.decode(answer.content, type=Submitted)

    async def open_session(self, **options: Unpack[SessionOptions]) -> SessionShown:
        """Open a session: an interpreter that is kept.

        Args:
            options: what it is to be like.

        Raises:
            ApiError: it was refused, there is no room, or the API does not answer.
        """
        return await sessions.open_one(self._transport, options)

    async def execute(
        self,
        session_id: str,
        code: str,
        *,
        timeout: float = sessions.CELL_S,
        output_files: Sequence[str] = (),
    ) -> CellResult:
        """Run a cell in a session, once those before it are done.

        Args:
            session_id: of the session.
            code: Python.
            timeout: seconds after which it is interrupted.
            output_files: names of files to hand back.

        Raises:
            ApiRefused: of status 410 where the session has ended, before or because of the cell.
            ApiError: it was refused, or the API does not answer.
        """
        return await sessions.run_cell(self._transport, session_id, code, timeout, output_files)

    async def sessions(self) -> list[SessionShown]:
        """The open sessions, the oldest first.

        Raises:
            ApiError: the API does not answer.
        """
        return await sessions.all_open(self._transport)

    async def close_session(self, session_id: str) -> SessionShown:
        """End a session; one that has ended stays as it is.

        Args:
            session_id: of the session.

        Raises:
            ApiError: there is none, or the API does not answer.
        """
        return await sessions.end_one(self._transport, session_id)

    async def batch(
        self, programs: Iterable[str | ProgramRequest], **options: Unpack[ProgramOptions]
    ) -> list[BatchItem]:
        """Queue many programs in few requests; what became of each, in order.

        Args:
            programs: code, or code with options of its own.
            options: of all programs that do not say otherwise.

        Raises:
            ApiError: a whole request was refused, or the API does not answer.
        """
        items: list[BatchItem] = []
        lines: list[bytes] = []
        for program in programs:
            lines.append(request_of(program, options))
            if len(lines) == BATCH_SIZE:
                items += await self._batch(lines)
                lines = []
        if lines:
            items += await self._batch(lines)
        return items

    async def as_completed(
        self,
        programs: Iterable[str | ProgramRequest] | AsyncIterable[str | ProgramRequest],
        *,
        window: int = WINDOW,
        progress: bool | OnProgress = False,
        **options: Unpack[ProgramOptions],
    ) -> AsyncGenerator[Completed, None]:
        """Run many programs; each as soon as it has ended or was refused.

        Args:
            programs: code, or code with options of its own; read as they are sent.
            window: how many are under way at once.
            progress: True draws a bar; or who is called with how many ended, and of how many.
            options: of all programs that do not say otherwise.

        Raises:
            ValueError: ``window`` is less than one.
        """
        if window < 1:
            raise ValueError("window must be at least 1")
        total = len(programs) if isinstance(programs, Sized) else None

        async def one(index: int, program: str | ProgramRequest) -> Completed:
            try:
                return Completed(index, await self._ended(program, options, None), None)
            except ApiError as error:
                return Completed(index, None, error)

        with reported(progress, total) as on_progress:
            done = 0
            async with aclosing(in_window(programs, one, window)) as results:
                async for result in results:
                    done += 1
                    on_progress(done, total)
                    yield result

    async def map(
        self,
        programs: Iterable[str | ProgramRequest] | AsyncIterable[str | ProgramRequest],
        *,
        window: int = WINDOW,
        progress: bool | OnProgress = False,
        **options: Unpack[ProgramOptions],
    ) -> AsyncGenerator[Evaluation, None]:
        """Run many programs; each once it has ended, in the order of the programs.

        Args:
            programs: as of ``as_completed``.
            window: how many are under way at once.
            progress: as of ``as_completed``.
            options: of all programs that do not say otherwise.

        Raises:
            ApiError: a program was refused, or the API does not answer. Others that were sent go
                on; ``as_completed`` gives every program its own error.
            ValueError: ``window`` is less than one.
        """
        early: dict[int, Completed] = {}
        expected = 0
        async with aclosing(
            self.as_completed(programs, window=window, progress=progress, **options)
        ) as results:
            async for result in results:
                early[result.index] = result
                while (following := early.pop(expected, None)) is not None:
                    expected += 1
                    if following.error is not None:
                        raise following.error
                    if following.evaluation is not None:
                        yield following.evaluation

    async def list(self, **filters: Any) -> AsyncGenerator[Evaluation, None]:
        """Evaluations that fit, newest first.

        Args:
            filters: ``status``, ``verdict``, ``language``, ``queue``, ``since``, ``until``, ``q``.

        Raises:
            ApiError: a filter was refused, or the API does not answer.
        """
        cursor = None
        while True:
            query = query_of({**filters, "limit": PAGE_SIZE, "cursor": cursor})
            answer = await self._transport.ask("GET", f"/api/eval{query}")
            page = msgspec.json.decode(answer.content, type=_Page)
            for evaluation in page.items:
                yield evaluation
            cursor = page.next_cursor
            if cursor is None:
                return

    async def events(
        self, eval_id: str | None = None, *, status: str | None = None, after: str | None = None
    ) -> AsyncGenerator[Event | Resync, None]:
        """What happens to one evaluation until it has ended, or to all of the key's tenant.

        A stream that is cut is taken up where it was. Where events are not kept for that any more,
        a ``Resync`` says so: what was missed has to be looked up.

        Args:
            eval_id: None for all, which does not end by itself.
            status: of all only those with one of these, separated by commas.
            after: ``event_id`` of the last event that was seen.

        Raises:
            ApiError: there is no such evaluation, or the API does not answer.
        """
        all_of_them = f"/api/events{query_of({'status': status})}"
        path = all_of_them if eval_id is None else f"{path_of(eval_id)}/events"
        while True:
            async with aclosing(followed(self._transport, path, after)) as stream:
                async for event in stream:
                    after = event.event_id or after
                    yield event
                    if eval_id and isinstance(event, Event) and event.status in ENDED:
                        return
            if eval_id and (await self.get(eval_id)).status in ENDED:
                return

    async def _batch(self, lines: Iterable[bytes]) -> Iterable[BatchItem]:
        headers = {
            "Content-Type": "application/x-ndjson",
            "Idempotency-Key": uuid.uuid4().hex,
        }
        answer = await self._transport.ask(
            "POST", "/api/eval/batch", body=b"\n".join(lines), headers=headers, wait_s=WAIT_SLICE_S
        )
        return msgspec.json.decode(answer.content, type=_Batch).items

    async def _ended(
        self, program: str | ProgramRequest, options: ProgramOptions, timeout: float | None
    ) -> Evaluation:
        """Submit a program and wait until it has ended."""
        until = _deadline(timeout)
        wait_s = _slice(until)
        answer = await self._post(f"/api/eval?wait={wait_s:g}", program, options, wait_s=wait_s)
        if answer.status == 200:
            found = _evaluation(answer)
            if found.status in ENDED:
                return found
        return await self._wait(msgspec.json.decode(answer.content, type=Submitted).eval_id, until)

    async def _wait(self, eval_id: str, until: float | None) -> Evaluation:
        while True:
            wait_s = _slice(until)
            path = f"{path_of(eval_id)}?wait={wait_s:g}"
            found = _evaluation(await self._transport.ask("GET", path, wait_s=wait_s))
            if found.status in ENDED:
                return found
            if until is not None and time.monotonic() >= until:
                raise TimeoutError(f"{eval_id} is still {found.status}")

    async def _post(
        self,
        path: str,
        program: str | ProgramRequest,
        options: ProgramOptions,
        *,
        wait_s: float = 0,
    ) -> Answer:
        headers: Mapping[str, str] = {}
        if not has_id(program, options):
            headers = {"Idempotency-Key": uuid.uuid4().hex}
        body = request_of(program, options)
        return await self._transport.ask("POST", path, body=body, headers=headers, wait_s=wait_s)


class _Page(msgspec.Struct):
    items: list[Evaluation]
    next_cursor: str | None = None


class _Batch(msgspec.Struct):
    items: list[BatchItem]


def _evaluation(answer: Answer) -> Evaluation:
    return msgspec.json.decode(answer.content, type=Evaluation)


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def _slice(until: float | None) -> float:
    """Seconds that the next request is to wait."""
    return WAIT_SLICE_S if until is None else min(WAIT_SLICE_S, max(0.0, until - time.monotonic()))
