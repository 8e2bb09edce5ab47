"""Who may use facades, and what their clients get while programs cannot be taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from support.api_rig import running_api
from support.keyed import make_key

from crucible.embedded.server import EmbeddedServer, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

pytestmark = [pytest.mark.timeout(400), pytest.mark.asyncio(loop_scope="module")]

#: What each runs a program by, and with what.
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "sandbox_fusion": ("/run_code", {"code": "1", "language": "python"}),
    "piston": (
        "/api/v2/execute",
        {"language": "python", "version": "*", "files": [{"content": "1"}]},
    ),
    "dify": ("/v1/sandbox/run", {"language": "python3", "code": "1"}),
    "nemo_skills": ("/execute", {"generated_code": "1", "language": "python", "timeout": 1}),
    "judge0": ("/submissions", {"source_code": "1", "language_id": 71}),
}
#: Header in which the clients of each send a key.
HEADERS = {"dify": "X-Api-Key", "judge0": "X-Auth-Token"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A queue server."""
    async with EmbeddedServer(tmp_path_factory.mktemp("server"), durable=False) as server:
        yield f"redis://127.0.0.1:{server.port}/0"


def without_keys(url: str) -> str:
    """A database of the same server in which no test makes a key."""
    return f"{url.removesuffix('0')}1"


async def ask(
    client: aiohttp.ClientSession, facade: str, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    path, body = RUNS[facade]
    async with client.post(path, json=body, headers=headers) as response:
        text = await response.text()
        return response.status, await response.json(content_type=None) if text else ""


async def test_overload_is_said_as_each_client_needs_it(url: str) -> None:
    """With a full queue: the status that is sent again, and nothing about the program."""
    async with running_api(url, queue_limit=1, event_bus_url="off") as client:
        async with client.post("/api/eval", json={"code": "1"}) as response:
            assert response.status == 202
        said = {facade: await ask(client, facade) for facade in RUNS}
        assert {facade: status for facade, (status, _) in said.items()} == {
            "sandbox_fusion": 504,
            "piston": 503,
            "dify": 503,
            "nemo_skills": 502,
            "judge0": 503,
        }
        assert set(said["sandbox_fusion"][1]) == {"detail"}
        assert "Resource temporarily unavailable" in said["piston"][1]["message"]
        assert said["dify"][1] == {"code": -503, "message": "Too many requests", "data": None}
        assert set(said["nemo_skills"][1]) == {"error"}
        assert said["judge0"][1] == {"error": "queue is full"}
        async with client.get("/metrics") as response:
            metrics = await response.text()
    for facade in RUNS:
        assert f'facade_requests_total{{facade="{facade}",status="5xx"}} 1.0' in metrics


async def test_keys_in_the_header_of_each(url: str) -> None:
    """A key is taken as the original's clients send it; a wrong one is refused as there."""
    secret = (await make_key(url, "tenant")).secret
    async with running_api(url, event_bus_url="off", queue_limit=1) as client:
        for facade in RUNS:
            field = HEADERS.get(facade, "X-API-Key")
            status, said = await ask(client, facade, {field: "crk_" + "0" * 36})
            assert status == 401, facade
            assert (said == "") == (facade in ("dify", "judge0"))
            # Known, so the full queue is all that is in its way.
            assert (await ask(client, facade, {field: secret}))[0] in (502, 503, 504)


async def test_health_on_the_port_of_a_facade(url: str) -> None:
    """Each as its original has it; on the api's own port, the api's."""
    dify, nemo = free_port(), free_port()
    compat = f"dify:{dify},nemo_skills:{nemo}"
    key = await make_key(url, "tenant")
    async with running_api(url, event_bus_url="off", compat=compat) as client:
        for port, said in ((dify, "ok"), (nemo, {"status": "healthy", "worker": "0"})):
            async with client.get(f"http://127.0.0.1:{port}/health") as response:
                assert await response.json() == said
        async with client.get("/health") as response:
            assert (await response.json())["status"] == "ok"
        # What is not named is not served.
        async with client.post("/run_code", json={}, headers=key.headers) as response:
            assert response.status == 404


async def test_a_slash_at_the_end_is_nothing_where_the_original_has_it_so(url: str) -> None:
    """Judge0's own documentation posts to ``/submissions/``."""
    async with running_api(without_keys(url), event_bus_url="off") as client:
        for facade, status in (("judge0", 422), ("piston", 400)):
            async with client.post(f"{RUNS[facade][0]}/", json={}) as response:
                assert response.status == status
        for path in ("/languages/", "/languages/71/", "/statuses/", "/api/v2/runtimes/"):
            async with client.get(path) as response:
                assert response.status == 200
        async with client.post("/run_code/", json={}) as response:
            assert response.status == 404


@pytest.mark.parametrize(
    ("field", "value", "least"),
    [
        ("cpu_time_limit", -1, "or equal to 0"),
        ("cpu_extra_time", -0.5, "or equal to 0"),
        ("wall_time_limit", 0.5, "or equal to 1"),
        ("memory_limit", 1, "or equal to 2048"),
        ("max_processes_and_or_threads", 0, "0"),
    ],
)
async def test_limits_under_the_least_of_judge0_are_refused(
    url: str, field: str, value: float, least: str
) -> None:
    """By field, in its words."""
    async with running_api(without_keys(url), event_bus_url="off") as client:
        body = {**RUNS["judge0"][1], field: value}
        async with client.post("/submissions", json=body) as response:
            assert response.status == 422
            assert await response.json() == {field: [f"must be greater than {least}"]}


async def test_limits_that_piston_is_not_asked_for_fit_the_installation(url: str) -> None:
    """What it takes by default is no more than there is; what is named is refused."""
    database = f"{url.removesuffix('0')}3"
    small: dict[str, Any] = {"max_wall_time_s": 2.0, "max_cpu_time_s": 1.0}
    async with running_api(database, event_bus_url="off", queue_limit=1, **small) as client:
        async with client.post("/api/eval", json={"code": "1"}) as response:
            assert response.status == 202
        path, body = RUNS["piston"]
        for more, status in (
            ({}, 503),
            ({"run_timeout": 2000, "run_cpu_time": 1000, "run_memory_limit": -1}, 503),
            ({"run_timeout": 3000}, 400),
            ({"compile_cpu_time": 10_000}, 400),
        ):
            async with client.post(path, json={**body, **more}) as response:
                assert response.status == status, more


#: What is refused of a submission, and the field that is named.
WRONG: list[tuple[str, Any]] = [
    ("language_id", "python"),
    ("language_id", None),
    ("language_id", 1),
    ("source_code", 5),
    ("source_code", " \n"),
    ("stdin", ["a"]),
    ("expected_output", {}),
    ("cpu_time_limit", "fast"),
    ("wall_time_limit", "0.5"),
    ("memory_limit", True),
    ("max_processes_and_or_threads", []),
]


async def test_judge0_names_the_field_that_is_wrong(url: str) -> None:
    """422 by field, whatever is wrong; 400 for what is no body and for unknown ``fields``."""
    async with running_api(without_keys(url), event_bus_url="off") as client:
        good = RUNS["judge0"][1]
        for field, value in WRONG:
            async with client.post("/submissions", json={**good, field: value}) as response:
                assert (response.status, list(await response.json())) == (422, [field]), value
        for query, body in (
            ("", b"{"),
            ("?fields=stdout,nothing,more", b"{}"),
            ("?fields=nothing,more&wait=true", b"{}"),
        ):
            async with client.post(f"/submissions{query}", data=body) as response:
                assert response.status == 400
                said = (await response.json())["error"]
            assert ("invalid fields: [nothing, more]" in said) == ("fields" in query)
        encoded = {**good, "source_code": "!!!!"}
        async with client.post("/submissions?base64_encoded=true", json=encoded) as response:
            assert response.status == 422
            assert await response.json() == {"source_code": ["can't be blank"]}
        nulls = dict.fromkeys(("stdin", "memory_limit", "number_of_runs", "additional_files"))
        for more in (nulls, {"language_id": "71", "cpu_time_limit": "1.5"}):
            async with client.post("/submissions", json={**good, **more}) as response:
                assert (response.status, list(await response.json())) == (201, ["token"])
        async with client.post("/submissions", data={**good, "stdin": "a b"}) as response:
            assert response.status == 201
            token = (await response.json())["token"]
        for path, status in (
            (f"/submissions/{token}?fields=status_id,source_code", 200),
            (f"/submissions/{token}?fields=*", 200),
            (f"/submissions/{token}?fields=nothing", 400),
            (f"/submissions/batch?tokens={token}&fields=nothing", 400),
            ("/submissions/batch?tokens=,", 400),
            (f"/submissions/batch?tokens={','.join([token] * 21)}", 400),
            ("/submissions/nobody", 404),
            ("/submissions", 403),
        ):
            async with client.get(path) as response:
                assert response.status == status, path
        async with client.get(f"/submissions/{token}?fields=status_id,source_code") as response:
            assert await response.json() == {"status_id": 1, "source_code": None}
        async with client.get("/submissions/batch", headers={"tokens": token}) as response:
            assert len((await response.json())["submissions"]) == 1
        async with client.delete(f"/submissions/{token}") as response:
            assert (response.status, await response.json()) == (
                403,
                {"error": "delete not allowed"},
            )


async def test_a_batch_of_judge0_is_taken_by_the_piece(url: str) -> None:
    """A wrong item is an error in its place; none taken is 422, and 503 where the queue is full."""

    async def batch(*submissions: Any) -> tuple[int, Any]:
        body = {"submissions": list(submissions)}
        async with client.post("/submissions/batch", json=body) as response:
            return response.status, await response.json()

    good = RUNS["judge0"][1]
    database = f"{url.removesuffix('0')}2"
    async with running_api(database, event_bus_url="off", queue_limit=1) as client:
        assert (await batch())[0] == (await batch(*[good] * 21))[0] == 400
        async with client.post("/submissions/batch", json={"submissions": "x"}) as response:
            assert response.status == 400
        status, said = await batch({**good, "language_id": "x"}, 5)
        assert (status, said) == (
            422,
            [{"language_id": ["is not a number"]}, {"submission": ["must be an object"]}],
        )
        status, said = await batch({**good, "stdin": 5}, good, good)
        assert (status, [list(one) for one in said]) == (201, [["stdin"], ["token"], ["error"]])
        for submissions in ((good, good), ({}, good)):
            assert await batch(*submissions) == (503, {"error": "queue is full"})


async def test_what_judge0_says_of_itself(url: str) -> None:
    """Languages with archived ones, and its version as text."""
    async with running_api(without_keys(url), event_bus_url="off") as client:
        async with client.get("/languages/all") as response:
            for one in await response.json():
                assert set(one) == {"id", "name", "is_archived"}
        async with client.get("/version") as response:
            assert await response.text() == "1.13.1"
        async with client.get("/languages/9999") as response:
            assert response.status == 404
