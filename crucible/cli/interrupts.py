"""A submission whose id is not lost on Ctrl-C, and which Ctrl-C can cancel."""

from __future__ import annotations

import asyncio
import shlex
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

import typer
from rich.console import Console

from crucible.cli.client import Accepted, Api, ask_api, ended, path_of
from crucible.cli.running import StopSignals
from crucible.cli.tests_table import Watcher
from crucible.models import ENDED, Status

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Seconds after the first Ctrl-C in which a second one cancels the evaluation.
SECOND_S = 3.0
#: What shells give for a program that SIGINT ended.
EXIT_CODE = 130


class Submission:
    """One program sent to the API; made while an event loop runs.

    From then on SIGINT is handled here: both methods end with ``typer.Exit(130)`` after one.

    Args:
        api: the API.
        body: the request.
        cancel_on_interrupt: cancel on the first SIGINT instead of the second.
    """

    def __init__(self, api: Api, body: Mapping[str, Any], cancel_on_interrupt: bool) -> None:
        self._api = api
        self._body = body
        self._cancel_at_once = cancel_on_interrupt
        self._eval_id = ""
        self._signals = StopSignals(signal.SIGINT)

    async def send(self) -> dict[str, Any]:
        """The API's answer; raises ApiError.

        After a first SIGINT its answer is waited for all the same, since it has the id.
        """
        signals = self._signals
        request = ask_api(self._api, "POST", "/api/eval", self._body, kind=Accepted)
        sending = asyncio.create_task(request)
        try:
            if not await _done_before(sending, signals.stop):
                _say("waiting for the API to answer with the id; Ctrl-C again does not wait")
                if not await _done_before(sending, signals.hurry):
                    _say("the API has not answered: it is not known whether the program is queued")
                    raise typer.Exit(EXIT_CODE)
        finally:
            await _stop(sending)
        accepted = sending.result()
        self._eval_id = accepted["eval_id"]
        if signals.stop.is_set():
            await self._interrupted()
        return accepted

    async def completed(self) -> dict[str, Any]:
        """The evaluation once it is complete; raises ApiError."""
        with Console(stderr=True).status(f"{self._eval_id} …") as status:
            seen = Watcher(status) if self._body.get("tests") else None
            waiting = asyncio.create_task(ended(self._api, self._eval_id, None, seen))
            try:
                done = await _done_before(waiting, self._signals.stop)
            finally:
                await _stop(waiting)
        if not done:
            await self._interrupted()
        return waiting.result()

    async def _interrupted(self) -> NoReturn:
        if not self._cancel_at_once:
            _say(f"{self._eval_id} is not cancelled by this")
            _say(f"  its output:   {self._command('result')} --wait 60")
            _say(f"  to cancel it: {self._command('cancel')}   or Ctrl-C within {SECOND_S:g} s")
            with suppress(TimeoutError):
                async with asyncio.timeout(SECOND_S):
                    await self._signals.hurry.wait()
        if self._cancel_at_once or self._signals.hurry.is_set():
            await self._cancel()
        raise typer.Exit(EXIT_CODE)

    async def _cancel(self) -> None:
        found = await ask_api(self._api, "DELETE", path_of(self._eval_id))
        if found["status"] in ENDED and found["status"] != Status.CANCELLED:
            _say(f"{self._eval_id} was {found['status']} before it could be cancelled")
            _say(f"  its output:   {self._command('result')}")
        else:
            now = "" if found["status"] == Status.CANCELLED else "being "
            _say(f"{self._eval_id} is {now}cancelled")

    def _command(self, name: str) -> str:
        # With the address, which may have been given as a flag of this command.
        return shlex.join(["crucible", name, self._eval_id, "--url", self._api.url])


async def _done_before(task: asyncio.Task[Any], event: asyncio.Event) -> bool:
    """Whether the task was done before the event was set; the task goes on if it was not."""
    seen = asyncio.create_task(event.wait())
    try:
        await asyncio.wait({task, seen}, return_when=asyncio.FIRST_COMPLETED)
        return task.done()
    finally:
        await _stop(seen)


async def _stop(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait until it has ended; one that is done keeps its result."""
    task.cancel()
    await asyncio.wait({task})


def _say(line: str) -> None:
    typer.echo(f"crucible: {line}", err=True)
