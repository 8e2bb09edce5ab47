"""The client for programs without an event loop.

Made from ``AsyncCrucible`` by ``scripts/blocking_client.py``: change that one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, Unpack

from crucible.client import sessions
from crucible.client.asynchronous import DEFAULT_URL, RETRY_FOR_S, WINDOW, AsyncCrucible
from crucible.client.portal import Portal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import TracebackType

    from crucible.client.models import BatchItem, Completed, Event, Resync, Submitted
    from crucible.client.progress import OnProgress
    from crucible.client.requests import ProgramOptions, ProgramRequest
    from crucible.client.sessions import CellResult, SessionOptions, SessionShown
    from crucible.models import Evaluation


class Crucible:
    """A client of the HTTP API; a context manager, and safe to use from several threads.

    Each method is that of ``AsyncCrucible``, run in an event loop in a thread of its own.

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
        self._client = AsyncCrucible(url, key, retry_for_s=retry_for_s)
        self._portal: Portal | None = None

    def __enter__(self) -> Self:
        self._portal = Portal()
        self._portal.call(self._client.__aenter__())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        portal = self._running()
        try:
            portal.call(self._client.__aexit__(kind, error, traceback))
        finally:
            portal.close()
            self._portal = None

    def _running(self) -> Portal:
        if self._portal is None:
            raise RuntimeError("the client is not open; use it in a with block")
        return self._portal

    def run(
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
        return self._running().call(self._client.run(code, timeout=timeout, **options))

    def submit(self, code: str, **options: Unpack[ProgramOptions]) -> Submitted:
        """Queue a program.

        Args:
            code: source text.
            options: what comes with it.

        Raises:
            ApiError: it was refused, or the API does not answer.
        """
        return self._running().call(self._client.submit(code, **options))

    def get(self, eval_id: str) -> Evaluation:
        """What is known of an evaluation.

        Args:
            eval_id: its id.

        Raises:
            ApiError: there is none, or the API does not answer.
        """
        return self._running().call(self._client.get(eval_id))

    def wait(self, eval_id: str, timeout: float | None = None) -> Evaluation:
        """An evaluation once it has ended.

        Args:
            eval_id: its id.
            timeout: seconds to wait at most.

        Raises:
            ApiError: there is none, or the API does not answer.
            TimeoutError: it has not ended in time.
        """
        return self._running().call(self._client.wait(eval_id, timeout))

    def cancel(self, eval_id: str) -> Evaluation:
        """Keep an evaluation from running, or stop it; one that has ended stays as it is.

        Args:
            eval_id: its id.

        Raises:
            ApiError: there is none, or the API does not answer.
        """
        return self._running().call(self._client.cancel(eval_id))

    def retry(self, eval_id: str) -> Submitted:
        """Run the same program once more.

        Args:
            eval_id: of an evaluation that has ended.

        Raises:
            ApiError: there is none, it cannot be run again, or the API does not answer.
        """
        return self._running().call(self._client.retry(eval_id))

    def open_session(self, **options: Unpack[SessionOptions]) -> SessionShown:
        """Open a session: an interpreter that is kept.

        Args:
            options: what it is to be like.

        Raises:
            ApiError: it was refused, there is no room, or the API does not answer.
        """
        return self._running().call(self._client.open_session(**options))

    def execute(
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
        return self._running().call(
            self._client.execute(session_id, code, timeout=timeout, output_files=output_files)
        )

    def sessions(self) -> list[SessionShown]:
        """The open sessions, the oldest first.

        Raises:
            ApiError: the API does not answer.
        """
        return self._running().call(self._client.sessions())

    def close_session(self, session_id: str) -> SessionShown:
        """End a session; one that has ended stays as it is.

        Args:
            session_id: of the session.

        Raises:
            ApiError: there is none, or the API does not answer.
        """
        return self._running().call(self._client.close_session(session_id))

    def batch(
        self, programs: Iterable[str | ProgramRequest], **options: Unpack[ProgramOptions]
    ) -> list[BatchItem]:
        """Queue many programs in few requests; what became of each, in order.

        Args:
            programs: code, or code with options of its own.
            options: of all programs that do not say otherwise.

        Raises:
            ApiError: a whole request was refused, or the API does not answer.
        """
        return self._running().call(self._client.batch(programs, **options))

    def as_completed(
        self,
        programs: Iterable[str | ProgramRequest],
        *,
        window: int = WINDOW,
        progress: bool | OnProgress = False,
        **options: Unpack[ProgramOptions],
    ) -> Iterator[Completed]:
        """Run many programs; each as soon as it has ended or was refused.

        Args:
            programs: code, or code with options of its own; read as they are sent.
            window: how many are under way at once.
            progress: True draws a bar; or who is called with how many ended, and of how many.
            options: of all programs that do not say otherwise.

        Raises:
            ValueError: ``window`` is less than one.
        """
        return self._running().iterate(
            self._client.as_completed(programs, window=window, progress=progress, **options)
        )

    def map(
        self,
        programs: Iterable[str | ProgramRequest],
        *,
        window: int = WINDOW,
        progress: bool | OnProgress = False,
        **options: Unpack[ProgramOptions],
    ) -> Iterator[Evaluation]:
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
        return self._running().iterate(
            self._client.map(programs, window=window, progress=progress, **options)
        )

    def list(self, **filters: Any) -> Iterator[Evaluation]:
        """Evaluations that fit, newest first.

        Args:
            filters: ``status``, ``verdict``, ``language``, ``queue``, ``since``, ``until``, ``q``.

        Raises:
            ApiError: a filter was refused, or the API does not answer.
        """
        return self._running().iterate(self._client.list(**filters))

    def events(
        self, eval_id: str | None = None, *, status: str | None = None, after: str | None = None
    ) -> Iterator[Event | Resync]:
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
        return self._running().iterate(self._client.events(eval_id, status=status, after=after))
