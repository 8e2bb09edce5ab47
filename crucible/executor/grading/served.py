"""``POST /grade`` of an executor service: a ``Grading`` in, judgements out as they are made."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from crucible.errors import ExecutorError, ExecutorRefused
from crucible.executor.grading.stream import Ended, Judged, encode_message

if TYPE_CHECKING:
    from crucible.executor.artifact import Compilation
    from crucible.executor.docker import DockerExecutor
    from crucible.grading.models import Grading, Judgement

STREAM = "application/vnd.crucible.judgements"


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
        if judgement is None:
            await work
        response = web.StreamResponse(headers={"Content-Type": STREAM})
        await response.prepare(request)
        while judgement is not None:
            await response.write(encode_message(Judged(judgement)))
            judgement = await waiting.get()
        await response.write(encode_message(await _ended(work)))
        await response.write_eof()
        return response
    finally:
        work.cancel()
        await asyncio.wait({work})


async def _work(
    executor: DockerExecutor, grading: Grading, waiting: asyncio.Queue[Judgement | None]
) -> Compilation | None:
    try:
        return await executor.grade(grading, waiting.put_nowait)
    finally:
        waiting.put_nowait(None)


async def _ended(work: asyncio.Task[Compilation | None]) -> Ended:
    try:
        return Ended(compilation=await work)
    except ExecutorRefused as error:
        return Ended("refused", str(error))
    except ExecutorError as error:
        return Ended("lost", str(error))
