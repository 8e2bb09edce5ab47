"""Where isolation nested cannot be had: said at the start, in the answer, by the doctor."""

from __future__ import annotations

import pytest
from aiohttp import ClientSession

from crucible.doctor.isolation import check_nested, judge_missing
from crucible.errors import ExecutorRefused, RequirementError, SettingsError
from crucible.executor import ExecutorConfig
from crucible.executor.docker import DockerExecutor
from crucible.executor.service import open_service
from crucible.models import Program
from crucible.settings import Settings
from crucible.up.stack import offered

pytestmark = pytest.mark.docker

#: An engine whose containers gVisor runs, by what it is asked for.
GVISOR = ExecutorConfig(runtime="runsc", pool_min=0, pool_max=1)
NESTED = Program(language="python", code="print(1)", isolation="nested")


async def test_a_setting_that_cannot_be_met_stops_the_start() -> None:
    """The executor does not open, and names the setting and what to do."""
    config = ExecutorConfig(runtime="runsc", isolation="nested", pool_min=0)
    with pytest.raises(SettingsError, match="gVisor") as caught:
        async with DockerExecutor.open(config):
            pass
    assert caught.value.setting == "CRUCIBLE_ISOLATION"


async def test_a_program_never_gets_a_weaker_wall() -> None:
    """It is refused at once and for good, by the name of the field."""
    async with DockerExecutor.open(GVISOR) as executor:
        with pytest.raises(ExecutorRefused, match=r"^isolation: nested cannot be had here"):
            await executor.run(NESTED)


async def test_a_service_answers_422() -> None:
    """A worker elsewhere, or anybody, is told the same over HTTP."""
    body = {"language": "python", "code": "print(1)", "isolation": "nested"}
    async with open_service(GVISOR) as url, ClientSession() as session:
        async with session.post(f"{url}/run", json=body) as response:
            assert response.status == 422
            problem = await response.json(content_type="application/problem+json")
            assert problem["detail"].startswith("isolation: ")


async def test_it_is_offered_only_where_it_can_be_had() -> None:
    """``crucible up`` refuses requests for it where it cannot, and does not start as set to it."""
    settings = Settings(docker_runtime="runsc")
    assert (await offered(settings, GVISOR)).isolations == ("container",)
    assert (await offered(Settings(), ExecutorConfig())).isolations == ("container", "nested")
    with pytest.raises(SettingsError):
        await offered(Settings(isolation="nested"), GVISOR)


async def test_the_doctor_tries_it() -> None:
    """The finding is of a lane that was started, and in the way only where it is what is set."""
    assert (await check_nested(Settings())).severity == "ok"
    assert (await check_nested(Settings(docker_runtime="runsc"))).severity == "warn"
    missing = RequirementError("no", "type this")
    assert judge_missing(missing, wanted=True).severity == "fail"
    assert judge_missing(missing, wanted=False).remedy == "type this"
