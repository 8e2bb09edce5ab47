"""The whole corpus through real containers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from support.corpus import CorpusProgram, Observed, load_corpus

from crucible.executor import Executor, ExecutorConfig, open_executor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.docker, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def executor() -> AsyncIterator[Executor]:
    async with open_executor(ExecutorConfig(pool_min=1, pool_max=2)) as opened:
        await opened.check()
        yield opened


@pytest.mark.parametrize("entry", load_corpus(), ids=lambda entry: entry.name)
async def test_corpus_program(executor: Executor, entry: CorpusProgram) -> None:
    """A program ends in a container as its expectation says, to the byte."""
    outcome = await executor.run(entry.program())
    assert entry.check(Observed.from_outcome(outcome)) == []
