"""Bodies that facades refuse, each in the form of its original; and what they take for granted.

The queue is full, so a body that is accepted gets the answer of an overload.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from support.api_rig import running_api

from crucible.embedded.server import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

pytestmark = [pytest.mark.timeout(400), pytest.mark.asyncio(loop_scope="module")]

JSON = {"Content-Type": "application/json"}
NESTED = b'{"x": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
BODIES: dict[str, dict[str, Any]] = {
    "/run_code": {"code": "1", "language": "python"},
    "/run_jupyter": {"cells": ["1"]},
    "/v1/sandbox/run": {"code": "1", "language": "python3"},
    "/execute": {"generated_code": "1", "language": "python"},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[aiohttp.ClientSession]:
    """An api whose queue is full."""
    async with EmbeddedServer(tmp_path_factory.mktemp("server"), durable=False) as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        async with running_api(
            url, event_bus_url="off", queue_limit=1, environments=("default", "data")
        ) as session:
            async with session.post("/api/eval", json={"code": "1"}) as response:
                assert response.status == 202
            yield session


async def ask(client: aiohttp.ClientSession, path: str, **fields: Any) -> tuple[int, Any]:
    async with client.post(path, json=BODIES[path] | fields) as response:
        return response.status, await response.json()


@pytest.mark.parametrize(
    "body",
    [NESTED, b'{"language": "\xff", "cells": "\xff", "generated_code": "\xff"}', b"{", b"", b"[]"],
    ids=["nested", "not utf-8", "cut", "empty", "a list"],
)
@pytest.mark.parametrize("path", BODIES)
async def test_what_is_no_request(client: aiohttp.ClientSession, path: str, body: bytes) -> None:
    """The status and the shape by which each client takes it for a bad request."""
    async with client.post(path, data=body, headers=JSON) as response:
        status, said = response.status, await response.json()
    if path == "/v1/sandbox/run":
        assert (status, said["code"], said["data"]) == (200, -400, None)
    elif path == "/execute":
        assert (status, list(said)) == (400, ["error"])
    else:
        assert status == 422
        [detail] = said["detail"]
        assert (detail["loc"][0], set(detail)) == ("body", {"loc", "msg", "type"})


@pytest.mark.parametrize("body", [NESTED, b'{"language": "\xff"}'], ids=["nested", "not utf-8"])
@pytest.mark.parametrize(
    "path",
    [
        *("/api/v2/execute", "/api/v1/execute", "/api/v2/packages"),
        *("/submissions", "/submissions/batch"),
    ],
)
async def test_what_piston_and_judge0_cannot_read(
    client: aiohttp.ClientSession, path: str, body: bytes
) -> None:
    """Refused in their form, too."""
    async with client.post(path, data=body, headers=JSON) as response:
        said = await response.json()
    assert (response.status, list(said)) == (400, ["error" if "submissions" in path else "message"])


async def test_a_coding_that_a_body_does_not_have(client: aiohttp.ClientSession) -> None:
    """It is read before it is decoded, and refused in the same form."""
    for path, status in zip(BODIES, (422, 422, 200, 400), strict=True):
        headers = {**JSON, "Content-Encoding": "gzip"}
        async with client.post(path, data=b"x", headers=headers) as response:
            said = await response.json()
        assert response.status == status, path
        assert set(said) & {"detail", "code", "error"}
        assert "title" not in said


@pytest.mark.parametrize(
    ("fields", "place", "kind"),
    [
        ({"code": 1}, ["code"], "value_error"),
        ({"run_timeout": None}, ["run_timeout"], "value_error"),
        ({"run_timeout": "nan"}, ["run_timeout"], "value_error"),
        ({"compile_timeout": "nan"}, ["compile_timeout"], "value_error"),
        ({"memory_limit_MB": 0.5}, ["memory_limit_MB"], "value_error"),
        ({"language": "csharp"}, ["language"], "value_error"),
        ({"language": "ruby"}, ["language"], "value_error"),
        ({"files": None}, ["files"], "value_error"),
        ({"files": {"a": 1}}, ["files"], "value_error"),
        ({"files": {"a": "YQ"}}, ["files"], "value_error"),
        ({"files": {"../a": ""}}, ["files"], "value_error"),
        ({"files": {"/etc/a": ""}}, ["files"], "value_error"),
        ({"fetch_files": ["a", "/etc/passwd"]}, ["fetch_files"], "value_error"),
        ({"fetch_files": ["a", "../a"]}, ["fetch_files", 1], "value_error"),
        ({"fetch_files": ["a", 1]}, ["fetch_files", 1], "value_error"),
    ],
)
async def test_sandbox_fusion_names_the_field(
    client: aiohttp.ClientSession, fields: Any, place: list[Any], kind: str
) -> None:
    """As FastAPI does, by the name that the client has for it."""
    status, said = await ask(client, "/run_code", **fields)
    [detail] = said["detail"]
    assert (status, detail["loc"], detail["type"]) == (422, ["body", *place], kind)


async def test_sandbox_fusion_names_what_is_missing(client: aiohttp.ClientSession) -> None:
    for path, field in (("/run_code", "code"), ("/run_jupyter", "cells")):
        async with client.post(path, json={"language": "python"}) as response:
            [detail] = (await response.json())["detail"]
        assert (response.status, detail["loc"], detail["type"]) == (422, ["body", field], "missing")


@pytest.mark.parametrize(
    "fields",
    [
        {"code": ""},
        {"code": " \n"},
        {"run_timeout": "5", "compile_timeout": 5},
        {"memory_limit_MB": "256"},
        {"memory_limit_MB": 256.0},
        {"memory_limit_MB": 1},
        {"memory_limit_MB": 10**40, "run_timeout": 1e300},
        {"fetch_files": ["", ".", "folder/", "a", "./a"]},
        {"files": {"a": "Y\nQ=="}},
        {"files": {"a": "YQ==", "./a": "YQ=="}},
        {"files": {"a": None}, "stdin": None, "fetch_files": []},
        {"args": ["-v"]},
    ],
    ids=str,
)
async def test_sandbox_fusion_takes_what_its_original_takes(
    client: aiohttp.ClientSession, fields: Any
) -> None:
    """No user's fault, or none that is more than the program's: it is run."""
    status, said = await ask(client, "/run_code", **fields)
    assert (status, set(said)) == (504, {"detail"}), said


async def test_notebooks_refuse_files_before_a_cell_is_run(client: aiohttp.ClientSession) -> None:
    """No worker has sessions here: what gets so far is an overload."""
    for names in (["/etc/passwd"], ["../a"]):
        assert (await ask(client, "/run_jupyter", fetch_files=names))[0] == 422
    assert (await ask(client, "/run_jupyter", fetch_files=["", "a/"], total_timeout="5"))[0] == 504


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"language": ""}, 200, -400),
        ({"language": None}, 200, -400),
        ({"code": ""}, 200, -400),
        ({"language": "go", "code": ""}, 200, -400),
        ({"language": "go"}, 400, -400),
        ({"preload": 5}, 200, -400),
        ({"enable_network": "yes"}, 200, -400),
        ({"preload": None, "enable_network": None}, 503, -503),
        ({"code": " "}, 503, -503),
    ],
    ids=str,
)
async def test_dify(client: aiohttp.ClientSession, fields: Any, status: int, code: int) -> None:
    """What is required may not be empty, and null is nothing, as in Go."""
    answered, said = await ask(client, "/v1/sandbox/run", **fields)
    assert (answered, said["code"], said["data"]) == (status, code, None)


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [("?language=python3", 200, 0), ("?language=nodejs", 400, -400), ("", 200, -400)],
)
async def test_dify_dependencies(
    client: aiohttp.ClientSession, query: str, status: int, code: int
) -> None:
    """Of Python alone, by name; what comes from Debian is among them."""
    async with client.get(f"/v1/sandbox/dependencies{query}") as response:
        said = await response.json()
    assert (response.status, said["code"]) == (status, code)
    if code == 0:
        names = [one["name"] for one in said["data"]["dependencies"]]
        assert {"jinja2", "numpy"} <= set(names)
        assert names == sorted(names)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"generated_code": ""}, 502),
        ({"std_input": None, "timeout": None, "max_output_characters": None}, 502),
        ({"timeout": 1}, 502),
        ({"language": "python3", "timeout": 1}, 502),
        ({"timeout": True}, 400),
        ({"timeout": "5"}, 400),
        ({"generated_code": None}, 400),
        ({"language": None}, 400),
        ({"language": "lean4"}, 400),
        ({"language": "ipython"}, 400),
    ],
    ids=str,
)
async def test_nemo_skills(client: aiohttp.ClientSession, fields: Any, status: int) -> None:
    """Null is the default, and an error has a text."""
    answered, said = await ask(client, "/execute", **fields)
    assert (answered, list(said)) == (status, ["error"]), said
