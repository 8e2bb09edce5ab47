"""The executor that starts containers itself."""

from __future__ import annotations

import itertools
import secrets
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from crucible.executor.engine import Engine
from crucible.executor.languages import language_of
from crucible.executor.options import FIRST_UID, UID_COUNT
from crucible.executor.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crucible.executor.config import ExecutorConfig
    from crucible.models import Outcome, Program


class DockerExecutor:
    """Runs every program in a container of its own."""

    def __init__(self, engine: Engine, config: ExecutorConfig) -> None:
        self._engine = engine
        self._config = config
        self._uids = itertools.count(secrets.randbelow(UID_COUNT))

    @classmethod
    @asynccontextmanager
    async def open(cls, config: ExecutorConfig) -> AsyncIterator[DockerExecutor]:
        """Connect to the engine and keep sandboxes ready."""
        async with Engine(config.docker_url, config.engine_s) as engine:
            yield cls(engine, config)

    async def check(self) -> None:
        """Raise ``ExecutorError`` when programs cannot run now."""
        await self._engine.image_id(self._config.image)

    async def run(self, program: Program) -> Outcome:
        """Run one program in a fresh container."""
        language = language_of(program.language)
        started = time.monotonic()
        uid = FIRST_UID + next(self._uids) % UID_COUNT
        sandbox = Sandbox(self._engine, self._config, program.limits, uid)
        try:
            await sandbox.create(language.image)
            await sandbox.prepare()
            sandbox_s = time.monotonic() - started
            outcome = await sandbox.run(program, language)
        finally:
            await sandbox.remove()
        return msgspec.structs.replace(outcome, sandbox_s=sandbox_s)
