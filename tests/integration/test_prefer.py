"""``Prefer: wait=N`` wherever ``?wait=`` is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.api_rig import running_api
from support.migration_rig import celery_worker

if TYPE_CHECKING:
    import aiohttp


@pytest.mark.parametrize("direct", [True, False])
async def test_a_client_prefers_to_wait(redis_url: str, direct: bool) -> None:
    """As the parameter does, and the answer says so; what cannot be read changes nothing."""
    async with running_api(redis_url, direct=direct, max_wait_s=20) as client:

        async def ask(
            method: str, path: str, prefer: str, json: object = None
        ) -> tuple[aiohttp.ClientResponse, str]:
            async with client.request(
                method, path, json=json, headers={"Prefer": prefer}
            ) as response:
                return response, await response.text()

        program = {"code": "print(7)"}
        for prefer in ("wait=x", "wait=-1", "return=minimal", "wait"):
            response, _ = await ask("POST", "/api/eval", prefer, program)
            assert (response.status, "Preference-Applied" in response.headers) == (202, False)
        response, _ = await ask("POST", "/api/eval", "wait=0", program | {"eval_id": "e"})
        assert (response.status, response.headers["Preference-Applied"]) == (202, "wait=0")
        async with celery_worker(redis_url):
            for prefer in ("wait=15", 'respond-async, Wait="15"'):
                response, text = await ask("POST", "/api/eval", prefer, program)
                assert (response.status, '"output":"7\\n"' in text) == (200, True)
                assert response.headers["Preference-Applied"] == "wait=15"
            response, text = await ask("GET", "/api/eval/e", "wait=99999")
            assert '"status":"completed"' in text
            assert response.headers["Preference-Applied"] == "wait=20"
            response, text = await ask("POST", "/api/eval/batch", "wait=15", [program])
            assert (response.content_type, '"index":0' in text) == ("application/x-ndjson", True)
            assert response.headers["Preference-Applied"] == "wait=15"
        response, _ = await ask("GET", "/api/eval/nobody", "wait=1")
        assert (response.status, "Preference-Applied" in response.headers) == (404, False)
        response, _ = await ask("POST", "/api/eval?wait=0", "wait=15", program)
        assert (response.status, "Preference-Applied" in response.headers) == (202, False)
