"""The whole corpus in a shared sandbox, and through an executor service."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
import pytest_asyncio
from support.corpus import CorpusProgram, Observed, load_corpus

from crucible.executor import Executor, ExecutorConfig, open_executor
from crucible.executor.service import open_service
from crucible.models import Verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.docker, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def executor() -> AsyncIterator[Executor]:
    config = ExecutorConfig(pool_min=1, pool_max=2)
    async with open_service(config) as url:
        async with open_executor(ExecutorConfig(urls=(url,))) as remote:
            yield remote


@pytest.mark.parametrize("entry", load_corpus(), ids=lambda entry: entry.name)
async def test_corpus_program_shared_through_a_service(
    executor: Executor, entry: CorpusProgram
) -> None:
    """A program ends the same in a shared sandbox of an executor service, to the byte."""
    program = msgspec.structs.replace(entry.program(), isolation="shared")
    outcome = await executor.run(program)
    if entry.name == "python-disk-full":
        # The file system is common to the tenant: the limit is a file's size, and says so.
        assert outcome.verdict is Verdict.DISK_LIMIT
        assert outcome.stderr.endswith(b"File too large\n")
        return
    assert entry.check(Observed.from_outcome(outcome)) == []


@pytest.mark.parametrize("entry", load_corpus()[::5], ids=lambda entry: entry.name)
async def test_corpus_program_through_a_service(executor: Executor, entry: CorpusProgram) -> None:
    """A sample of the programs ends the same in containers of an executor service."""
    outcome = await executor.run(entry.program())
    assert entry.check(Observed.from_outcome(outcome)) == []
