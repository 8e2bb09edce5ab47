"""``POST /grade`` of an executor service: a ``Grading`` in, judgements out as they are made."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from crucible.errors import ExecutorError, ExecutorRefused
from crucible.executor.grading.stream import Ended, Judged, encode_message
from crucible.grading.models import Grading

if TYPE_CHECKING:
    from crucible.executor.docker import DockerExecutor
    from crucible.grading.models import Judgement

STREAM = "application/vnd.crucible.judgements"
_decode = msgspec.msgpack.Decoder(Grading).decode


def decode_grading(body: bytes) -> Grading:
    """What a client asks for.

    Raises:
        msgspec.DecodeError: it is none.
    """
    return _decode(body)


async def answer_grading(
    request: web.Request, executor: DockerExecutor, grading: Grading
) -> web.StreamResponse:
    """Grade, and send each judgement when it is there. A client that hangs up cancels it.

    Raises:
        ExecutorError: nothing was judged and nothing sent.
    """
    waiting: asyncio.Queue[Judgement | None] = asyncio.Queue()
    work = asyncio.create_task(_work(executor, grading, waiting))
    try:
        judgement = await waiting.get()
        if judgement is None and (error := await work) is not None:
            raise error
        response = web.StreamResponse(headers={"Content-Type": STREAM})
        await response.prepare(request)
        while judgement is not None:
            await response.write(encode_message(Judged(judgement)))
            judgement = await waiting.get()
        await response.write(encode_message(_ended(await work)))
        await response.write_eof()
        return response
    finally:
        work.cancel()
        await asyncio.wait({work})


async def _work(
    executor: DockerExecutor, grading: Grading, waiting: asyncio.Queue[Judgement | None]
) -> ExecutorError | None:
    """Grade; why that could not be done to the end."""
    try:
        await executor.grade(grading, waiting.put_nowait)
    except ExecutorError as error:
        return error
    finally:
        waiting.put_nowait(None)
    return None


def _ended(error: ExecutorError | None) -> Ended:
    if error is None:
        return Ended()
    return Ended("refused" if isinstance(error, ExecutorRefused) else "lost", str(error))
