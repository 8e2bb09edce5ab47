"""Answers remote control requests, one after the other."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any

from crucible.errors import BrokerError, BrokerUnavailable, NotPermitted
from crucible.worker.control.commands import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from crucible.broker.control.pidbox import Mailbox, Request
    from crucible.worker.control.controlled import ControlledWorker

logger = logging.getLogger(__name__)


class RequestHandler:
    """Runs commands.

    Args:
        worker: what commands work on.
        mailbox: brings requests and takes replies.
    """

    def __init__(self, worker: ControlledWorker, mailbox: Mailbox) -> None:
        self._worker = worker
        self._mailbox = mailbox

    async def run(self, beat: Callable[[], None]) -> None:
        """Answer until cancelled.

        Raises:
            BrokerUnavailable: the server is gone; the request in hand is lost, as its reply is.
        """
        while True:
            beat()
            request = await self._mailbox.requests.get()
            await self.answer(request)

    async def answer(self, request: Request) -> None:
        """Run one command and send its reply.

        Raises:
            BrokerUnavailable: the server is gone.
        """
        value = await self._value(request)
        if request.method == "shutdown":
            return
        try:
            try:
                await self._mailbox.reply(request, value)
            except (TypeError, ValueError) as error:
                await self._mailbox.reply(request, {"error": repr(error)})
        except BrokerError as error:
            if isinstance(error, BrokerUnavailable) and not isinstance(error, NotPermitted):
                raise
            # The fault is in the asking client's own list or binding; the next request has another.
            logger.warning("the reply to %s cannot be sent: %s", request.method, error)

    async def _value(self, request: Request) -> Any:
        """What the command returns; whatever it raises becomes stock's error reply."""
        try:
            value = COMMANDS[request.method](self._worker, **request.arguments)
            return await value if inspect.isawaitable(value) else value
        except Exception as error:  # arguments come from any client, and stock replies so
            if isinstance(error, BrokerUnavailable) and not isinstance(error, NotPermitted):
                raise
            logger.warning("remote control %s: %r", request.method, error)
            return {"error": repr(error)}
