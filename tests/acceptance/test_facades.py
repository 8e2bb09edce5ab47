"""What clients of other systems send, and the answers their originals give."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import uuid
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from support.api_rig import port_of, running_api
from support.receiver import listening_receiver
from support.sandboxes import sleeping
from support.worker_rig import async_worker

from benchmarks import reward_loop
from crucible.embedded.server import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(300),
    pytest.mark.asyncio(loop_scope="module"),
]

LOOPBACK = "127.0.0.0/8"
SERVED = ("default", "judge")
ROOT = Path(__file__).resolve().parents[2]
C = '#include <stdio.h>\nint main(void){int a,b;scanf("%d %d",&a,&b);printf("%d\\n",a+b);return 0;}'


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[aiohttp.ClientSession]:
    """An api and a worker with containers."""
    async with EmbeddedServer(tmp_path_factory.mktemp("server")) as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        async with (
            running_api(
                url, event_bus_url="off", environments=SERVED, webhook_networks=(LOOPBACK,)
            ) as session,
            async_worker(
                url,
                CRUCIBLE_EVENT_BUS_URL="off",
                CRUCIBLE_ENVIRONMENTS=",".join(SERVED),
                CRUCIBLE_WEBHOOK_NETWORKS=LOOPBACK,
            ),
        ):
            yield session


async def ask(client: aiohttp.ClientSession, path: str, body: Any) -> tuple[int, Any]:
    async with client.post(path, json=body) as response:
        return response.status, await response.json(content_type=None)


async def fusion(client: aiohttp.ClientSession, **body: Any) -> Any:
    status, answer = await ask(client, "/run_code", {"language": "python", **body})
    assert status == 200, answer
    return answer


async def test_sandbox_fusion(client: aiohttp.ClientSession) -> None:
    """The user's faults are 200s; nothing but a fault of the platform is a SandboxError."""
    good = await fusion(client, code="print(input())", stdin="hi", memory_limit_MB=-1)
    assert (good["status"], good["message"], good["compile_result"]) == ("Success", "", None)
    assert good["run_result"]["stdout"] == "hi\n"
    assert (good["run_result"]["status"], good["run_result"]["return_code"]) == ("Finished", 0)
    assert set(good) >= {"executor_pod_name", "files"}
    # Less than no time is no limit of its own, for the program as for who waits.
    endless = await fusion(client, code="print(1)", run_timeout=-4e16, compile_timeout=-1)
    assert endless["status"] == "Success"
    bad = await fusion(client, code="import sys; sys.exit(3)")
    assert (bad["status"], bad["run_result"]["return_code"]) == ("Failed", 3)
    slow = await fusion(client, code="print(1, flush=True)\nwhile 1: pass", run_timeout=0.5)
    assert (slow["status"], slow["message"]) == ("Failed", "")
    assert slow["run_result"]["status"] == "TimeLimitExceeded"
    assert (slow["run_result"]["return_code"], slow["run_result"]["stdout"]) == (None, "1\n")
    hog = await fusion(client, code="x = 'x' * (1 << 30)", memory_limit_MB=64)
    assert (hog["status"], hog["run_result"]["status"]) == ("Failed", "Finished")
    assert hog["run_result"]["return_code"] != 0
    compiled = await fusion(client, language="c", code=C, stdin="1 2")
    assert compiled["compile_result"]["return_code"] == 0
    assert compiled["run_result"]["stdout"] == "3\n"
    wrong = await fusion(client, language="c", code="int main( {")
    assert (wrong["status"], wrong["run_result"]) == ("Failed", None)
    assert wrong["compile_result"]["return_code"] == 1
    assert "main.c" in wrong["compile_result"]["stderr"]


async def test_sandbox_fusion_files(client: aiohttp.ClientSession) -> None:
    """Files in and out are base64; placeholders are passed over."""
    content = base64.b64encode(b"\xff\0").decode()
    answer = await fusion(
        client,
        code="open('out.bin', 'wb').write(open('d/in.bin', 'rb').read())",
        files={"d/in.bin": content, "IGNORE_THIS_FILE.txt": "!", "nothing": None},
        fetch_files=["/tmp/work/out.bin", "not-there"],
    )
    assert answer["status"] == "Success", answer
    assert answer["files"] == {"/tmp/work/out.bin": content}
    status, refused = await ask(
        client, "/run_code", {"code": "x", "language": "python", "files": {"/etc/x": content}}
    )
    assert (status, refused["detail"][0]["loc"][:2]) == (422, ["body", "files"])
    for body in ({}, {"code": 1, "language": "python"}, {"code": "x", "language": "cobol"}):
        status, refused = await ask(client, "/run_code", body)
        assert status == 422
        assert set(refused["detail"][0]) == {"loc", "msg", "type"}
    async with client.get("/v1/ping") as response:
        assert await response.json() == "pong"


async def piston(client: aiohttp.ClientSession, code: str, **body: Any) -> Any:
    asked = {"language": "python", "version": "*", "files": [{"content": code}], **body}
    status, answer = await ask(client, "/api/v2/execute", asked)
    assert status == 200, answer
    return answer


async def test_piston(client: aiohttp.ClientSession) -> None:
    """Times in milliseconds, memory in bytes, statuses of two letters."""
    good = (await piston(client, "import sys; print(sys.argv[1:])", args=["a b"]))["run"]
    assert (good["stdout"], good["output"], good["code"]) == ("['a b']\n", "['a b']\n", 0)
    assert (good["signal"], good["status"], good["message"]) == (None, None, None)
    assert good["memory"] > 1 << 20
    failed = (await piston(client, "raise SystemExit(7)"))["run"]
    assert (failed["code"], failed["status"]) == (7, "RE")
    slow = (await piston(client, "while 1: pass", run_timeout=500))["run"]
    assert (slow["status"], slow["signal"], slow["code"]) == ("TO", "SIGKILL", None)
    killed = (await piston(client, "import os; os.kill(os.getpid(), 11)"))["run"]
    assert (killed["status"], killed["signal"], killed["code"]) == ("SG", "SIGSEGV", None)
    compiled = await piston(client, C, language="c", stdin="20 22")
    assert (compiled["compile"]["code"], compiled["run"]["stdout"]) == (0, "42\n")
    hexed = {"name": "data.bin", "content": "ff00", "encoding": "hex"}
    files = [{"content": "print(open('data.bin', 'rb').read())"}, hexed]
    assert (await piston(client, "", files=files))["run"]["stdout"] == "b'\\xff\\x00'\n"
    async with client.get("/api/v2/runtimes") as response:
        runtimes = {one["language"]: one for one in await response.json()}
    assert {"python", "javascript", "c"} <= set(runtimes)
    assert runtimes["javascript"]["runtime"] == "node"


async def test_piston_refuses_as_piston_does(client: aiohttp.ClientSession) -> None:
    """400 with a message, 415 for what is not JSON."""
    asked = {"language": "python", "version": "*", "files": [{"content": "1"}]}
    for change, words in (
        ({"language": "cobol"}, "cobol-* runtime is unknown"),
        ({"version": "2.7"}, "python-2.7 runtime is unknown"),
        ({"version": "3.1"}, "python-3.1 runtime is unknown"),
        ({"version": "^4 || <3"}, "python-^4 || <3 runtime is unknown"),
        ({"language": None}, "language is required as a string"),
        ({"run_timeout": 10**9}, "run_timeout cannot exceed the configured limit of"),
        ({"run_timeout": -5}, "run_timeout must be non-negative"),
        ({"files": []}, "files must include at least one utf8 encoded file"),
        ({"files": [{"content": "?", "encoding": "base64"}]}, "files[0].content is not base64"),
    ):
        status, answer = await ask(client, "/api/v2/piston/execute", asked | change)
        assert status == 400
        assert words in answer["message"]
    async with client.post("/api/v2/execute", data={"language": "python"}) as response:
        assert response.status == 415


async def test_piston_takes_ranges_and_nulls(client: aiohttp.ClientSession) -> None:
    """Versions as npm's ranges; null and 0 are the defaults; data may come before the program."""
    for version in ("3", "3.x", "3.*", ">=3", "^3.0", ">=3.4 <4 || 2"):
        await piston(client, "print(1)", version=version)
    nothing = dict.fromkeys(("stdin", "args", "run_cpu_time", "compile_timeout"))
    hexed = {"name": "data.bin", "content": "ff00", "encoding": "hex"}
    files = [hexed, {"content": "print(open('data.bin', 'rb').read())"}]
    asked = {**nothing, "files": files, "run_timeout": 0, "run_memory_limit": None}
    assert (await piston(client, "", **asked))["run"]["stdout"] == "b'\\xff\\x00'\n"
    shell = await piston(client, "kill -35 $$", language="sh")
    assert (shell["language"], shell["run"]["signal"]) == ("bash", "SIGRTMIN+1")


async def test_piston_says_how_a_compiler_ended(client: aiohttp.ClientSession) -> None:
    """A status, and a run where there was none."""
    broken = await piston(client, "int main( {", language="c")
    compiled = broken["compile"]
    assert (compiled["status"], compiled["code"], compiled["signal"]) == ("RE", 1, None)
    assert compiled["message"] == "Exited with error status 1"
    assert broken["run"] == compiled
    endless = "constexpr long f(long n) { return n < 2 ? n : f(n - 1) + f(n - 2); }\n"
    code = endless + "static_assert(f(60) > 0); int main() {}"
    slow = await piston(client, code, language="cpp", compile_timeout=300)
    compiled = slow["compile"]
    assert (compiled["status"], compiled["code"], compiled["signal"]) == ("TO", None, "SIGKILL")
    assert slow["run"]["status"] == "TO"


async def test_piston_packages(client: aiohttp.ClientSession) -> None:
    """What there is, is installed; nothing else can be."""
    async with client.get("/api/v2/packages") as response:
        installed = {one["language"]: one for one in await response.json()}
    python = installed["python"]
    assert set(python) == {"language", "language_version", "installed"}
    known = {"language": "python", "version": python["language_version"]}
    unknown = {"language": "cobol", "version": "1.0.0"}
    for method in ("POST", "DELETE"):
        for body, status, text in (
            (known, 500, "installed"),
            (unknown, 404, "Requested package cobol-1.0.0 does not exist"),
            ({}, 404, "Requested package undefined-undefined does not exist"),
            ([], 400, "object"),
        ):
            async with client.request(method, "/api/v2/packages", json=body) as response:
                assert response.status == status
                assert text in (await response.json())["message"]
        async with client.request(method, "/api/v2/packages", data="{}") as response:
            assert response.status == 415


async def connected(client: aiohttp.ClientSession, *messages: Any) -> tuple[list[Any], int | None]:
    """What comes over the WebSocket for some messages, and the code it is closed with."""
    async with client.ws_connect("/api/v2/connect") as socket:
        for message in messages:
            await socket.send_str(message if isinstance(message, str) else json.dumps(message))
        heard = [message.json() async for message in socket]
        return heard, socket.close_code


async def test_piston_over_a_web_socket(client: aiohttp.ClientSession) -> None:
    """Runtime, stages, data and exits, and a close code for each mistake."""
    init = {"type": "init", "language": "python", "version": "*"}
    code = "import sys; print(input()); print('e', file=sys.stderr); sys.exit(3)"
    heard, closed = await connected(client, {**init, "files": [{"content": code}], "stdin": "in"})
    assert (heard.pop(0)["type"], closed) == ("runtime", 4999)
    assert heard == [
        {"type": "stage", "stage": "run"},
        {"type": "data", "stream": "stdout", "data": "in\n"},
        {"type": "data", "stream": "stderr", "data": "e\n"},
        {"type": "exit", "stage": "run", "code": 3, "signal": None},
    ]
    compiled = {**init, "language": "c", "files": [{"content": C}], "stdin": "1 2"}
    heard, _ = await connected(client, compiled)
    assert [one["stage"] for one in heard if one["type"] == "exit"] == ["compile", "run"]
    heard, _ = await connected(client, {**compiled, "files": [{"content": "int main( {"}]})
    assert [one["stage"] for one in heard if one["type"] == "exit"] == ["compile"]
    endless = {**init, "files": [{"content": "while 1: pass"}]}
    heard, closed = await connected(client, endless, {"type": "signal", "signal": "SIGKILL"})
    assert (heard[-1], closed) == (
        {"type": "exit", "stage": "run", "code": None, "signal": "SIGKILL"},
        4999,
    )
    for messages, code_, error in (
        ((), 4001, False),
        (({"type": "data", "stream": "stdin", "data": "x"},), 4003, False),
        (("{",), 4002, True),
        (({**init, "language": "cobol", "files": [{"content": "1"}]},), 4002, True),
        (({**init, "files": None},), 4002, True),
        (({"type": "nonsense"},), 4001, False),
        (({"type": "signal", "signal": "SIGKILL"},), 4003, False),
        ((endless, {"type": "nonsense"}, {"type": "signal", "signal": "SIGKILL"}), 4999, False),
        ((endless, endless), 4000, False),
        ((endless, {"type": "data", "stream": "stdout", "data": "x"}), 4004, False),
        ((endless, {"type": "data", "stream": "stdin", "data": "x"}), 4002, True),
        ((endless, {"type": "signal", "signal": "SIGNOTHING"}), 4005, False),
    ):
        heard, closed = await connected(client, *messages)
        assert (closed, any(one["type"] == "error" for one in heard)) == (code_, error), messages


async def ask_status(client: aiohttp.ClientSession, eval_id: str) -> str:
    async with client.get(f"/api/eval/{eval_id}") as response:
        return str((await response.json())["status"])


async def test_piston_is_signalled(
    client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written before comes first; the stage is the one that ran; some end nothing."""
    init = {"type": "init", "language": "python", "version": "*"}
    eval_id, seconds = uuid.uuid4().hex, "60.7315"
    monkeypatch.setattr("crucible.compat.piston_socket.new_id", lambda: eval_id)
    code = f"import os; print('first', flush=True); os.execlp('sleep', 'sleep', '{seconds}')"
    async with client.ws_connect("/api/v2/connect") as socket:
        # Piston's own server takes both kinds of frames.
        await socket.send_bytes(json.dumps({**init, "files": [{"content": code}]}).encode())
        assert (await socket.receive_json())["type"] == "runtime"
        for passed_over in ("SIGWINCH", "SIGSTOP", "SIGRTMIN+1"):
            await socket.send_json({"type": "signal", "signal": passed_over})
        async with asyncio.timeout(60):
            while not sleeping(seconds):
                await asyncio.sleep(0.1)
            # What is not known to run yet has no output when it is cancelled.
            while (await ask_status(client, eval_id)) != "running":
                await asyncio.sleep(0.1)
        monkeypatch.undo()
        await socket.send_json({"type": "signal", "signal": "SIGTERM"})
        heard = [message.json() async for message in socket]
    assert heard == [
        {"type": "stage", "stage": "run"},
        {"type": "data", "stream": "stdout", "data": "first\n"},
        {"type": "exit", "stage": "run", "code": None, "signal": "SIGTERM"},
    ]
    assert socket.close_code == 4999
    slow = {**init, "language": "c", "files": [{"content": '#include "/dev/zero"'}]}
    heard, closed = await connected(client, slow, {"type": "signal", "signal": "SIGKILL"})
    # It may have run out of memory first.
    assert (heard[-1]["type"], heard[-1]["stage"]) == ("exit", "compile")
    assert closed == 4999


async def dify(client: aiohttp.ClientSession, code: str, **body: Any) -> Any:
    asked = {"language": "python3", "code": code, "enable_network": True, **body}
    status, answer = await ask(client, "/v1/sandbox/run", asked)
    assert (status, answer["code"], answer["message"]) == (200, 0, "success")
    return answer["data"]


async def test_dify(client: aiohttp.ClientSession) -> None:
    """``error`` is empty where the program exits with 0, whatever it wrote on standard error."""
    good = await dify(client, "import sys; print('<<RESULT>>{}<<RESULT>>'); sys.stderr.write('w')")
    assert good == {
        "stdout": "<<RESULT>>{}<<RESULT>>\n",
        "stderr": "w",
        "error": "",
        "exit_code": 0,
    }
    failed = await dify(client, "1 / 0")
    assert failed["exit_code"] == 1
    assert failed["error"].startswith("process exited with code 1\n")
    assert "ZeroDivisionError" in failed["error"]
    assert (await dify(client, "print(x)", preload="x = 5"))["stdout"] == "5\n"
    assert (await dify(client, "console.log(6 * 7)", language="nodejs"))["stdout"] == "42\n"
    assert (await ask(client, "/v1/sandbox/run", {"language": 1}))[1]["code"] == -400
    status, unknown = await ask(client, "/v1/sandbox/run", {"language": "go", "code": "x"})
    assert (status, unknown["code"], unknown["data"]) == (400, -400, None)
    async with client.get("/v1/sandbox/dependencies?language=python3") as response:
        assert isinstance((await response.json())["data"]["dependencies"], list)


async def test_nemo_skills(client: aiohttp.ClientSession) -> None:
    """A program in Python is completed whatever its exit code; output is cut where it is asked."""

    async def run(code: str, **body: Any) -> Any:
        asked = {"generated_code": code, "language": "python", "timeout": 5, **body}
        return await ask(client, "/execute", asked)

    _, good = await run("print(input())", std_input="x")
    assert good == {
        "process_status": "completed",
        "stdout": "x\n",
        "stderr": "",
        "new_session_created": False,
    }
    assert (await run("print(1)", timeout=-4e16))[1]["stdout"] == "1\n"
    assert (await run("raise SystemExit(1)"))[1]["process_status"] == "completed"
    assert (await run("exit 3", language="shell"))[1]["process_status"] == "error"
    _, slow = await run("while 1: pass", timeout=0.5)
    assert slow["process_status"] == "timeout"
    assert slow["stderr"].endswith("Execution timed out after 0.5 seconds\n")
    _, cut = await run("print('x' * 100)", max_output_characters=10)
    assert cut["stdout"] == "x" * 10 + "<output cut>"
    status, refused = await run("x", language="lean4")
    assert (status, "lean4" in refused["error"]) == (400, True)


def zipped(files: dict[str, bytes]) -> str:
    """A zip archive in base64."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as writer:
        for name, content in files.items():
            writer.writestr(name, content)
    return base64.b64encode(archive.getvalue()).decode()


async def judge0(client: aiohttp.ClientSession, query: str = "wait=true", **body: Any) -> Any:
    asked = {"language_id": 71, **body}
    return await ask(client, f"/submissions?{query}", asked)


async def test_judge0(client: aiohttp.ClientSession) -> None:
    """Statuses by number; what is expected decides between accepted and wrong."""
    status, good = await judge0(client, source_code="print(1)", expected_output="1")
    assert (status, good["status"]) == (201, {"id": 3, "description": "Accepted"})
    assert (good["stdout"], good["stderr"], good["compile_output"]) == ("1\n", None, None)
    assert isinstance(good["time"], str)
    for number, code, more in (
        (3, "print('1 ', 2, sep='\\n')", {"expected_output": "1\r\n2"}),
        (4, "print(1)", {"expected_output": "2"}),
        (12, "import os; os.kill(os.getpid(), 35)", {}),
        (5, "while 1: pass", {"cpu_time_limit": 0.5}),
        (7, "import os; os.kill(os.getpid(), 11)", {}),
        (11, "raise SystemExit(1)", {}),
        (6, "int main( {", {"language_id": 50}),
    ):
        _, found = await judge0(client, source_code=code, **more)
        assert found["status"]["id"] == number, found
    assert (found["time"], found["memory"], found["stderr"]) == (None, None, None)
    assert "main.c" in found["compile_output"]
    for field, body in (
        ("source_code", {}),
        ("language_id", {"source_code": "x", "language_id": 1}),
        ("callback_url", {"source_code": "x", "callback_url": "http://10.0.0.1/"}),
        ("additional_files", {"source_code": "x", "additional_files": "eA=="}),
        ("additional_files", {"source_code": "x", "additional_files": zipped({"../x": b""})}),
        ("additional_files", {"source_code": "x", "additional_files": zipped({"main.py": b""})}),
    ):
        status, refused = await judge0(client, **body)
        assert (status, list(refused)) == (422, [field])


async def test_judge0_files_and_callbacks(client: aiohttp.ClientSession) -> None:
    """Files of an archive lie beside the program; the callback is a PUT, in base64."""
    code = "import d.mod\nprint(d.mod.x, open('data.bin', 'rb').read())"
    files = zipped({"d/mod.py": b"x = 5", "data.bin": b"\xff"})
    async with listening_receiver() as received:
        status, asked = await judge0(
            client, "", source_code=code, additional_files=files, callback_url=received.url
        )
        assert (status, list(asked)) == (201, ["token"])
        [(headers, body)] = await received.until(1)
    assert (headers["x-method"], headers["Content-Type"]) == ("PUT", "application/json")
    said = json.loads(body)
    assert base64.b64decode(said["stdout"]) == b"5 b'\\xff'\n"
    assert (said["token"], said["status"]["id"]) == (asked["token"], 3)
    assert set(said) == {
        "stdout", "time", "memory", "stderr", "token", "compile_output", "message", "status",
    }  # fmt: skip


async def test_judge0_bytes_and_batches(client: aiohttp.ClientSession) -> None:
    """Output that is no text needs base64; a batch keeps its order."""
    code = "import sys; sys.stdout.buffer.write(b'\\xff')"
    status, answer = await judge0(client, source_code=code)
    # It was run, so that its token comes with the error.
    assert (status, "base64_encoded=true" in answer["error"]) == (201, True)
    token = answer["token"]
    for query, status in (("", 400), ("?fields=stdout", 400), ("?fields=status,stderr", 200)):
        async with client.get(f"/submissions/{token}{query}") as response:
            assert response.status == status
    async with client.get(f"/submissions/batch?tokens={token}") as response:
        assert response.status == 400
        assert "one or more submissions" in (await response.json())["error"]
    encoded = base64.b64encode(code.encode()).decode()
    _, answer = await judge0(
        client, "wait=true&base64_encoded=true&fields=stdout", source_code=encoded
    )
    assert answer == {"stdout": "/w=="}
    items = [{"language_id": 71, "source_code": "print(1)"}, {"language_id": 71}]
    status, tokens = await ask(client, "/submissions/batch", {"submissions": items})
    assert (status, list(tokens[0]), list(tokens[1])) == (201, ["token"], ["source_code"])
    token = tokens[0]["token"]
    while True:
        async with client.get(f"/submissions/batch?tokens={token},nobody") as response:
            found, missing = (await response.json())["submissions"]
        if found["status"]["id"] > 2:
            break
    assert (found["stdout"], missing) == ("1\n", None)
    async with client.get("/languages/71") as response:
        assert (await response.json())["name"].startswith("Python (3")
    async with client.get("/workers") as response:
        [queue] = await response.json()
    assert (queue["queue"], queue["available"]) == ("default", 1)
    async with client.get("/system_info") as response:
        assert int((await response.json())["CPU(s)"]) > 0
    async with client.get("/statuses") as response:
        assert len(await response.json()) == 14


async def test_a_reward_loop_in_short(client: aiohttp.ClientSession) -> None:
    """Endless programs and hogs among the others: every reward is right, and none is lost.

    ``python -m benchmarks.reward_loop`` is the long form, which compares throughput as well.
    """
    url = f"http://127.0.0.1:{port_of(client)}"
    facade, api = await reward_loop.compare(url, requests=50, rounds=1, in_flight=50)
    for tally in (facade, api):
        assert (tally.wrong, tally.lost, tally.answered) == ([], 0, 50)


SUMS = ("python", "javascript", "bash", "c", "cpp")


@pytest.mark.parametrize(
    ("package", "answers"),
    [
        (
            "pistonapi",
            {
                **dict.fromkeys(SUMS, "42\n"),
                "runtimes": True,
                "failing": "before\n",
                "endless": "",
                "unknown": "cobol-* runtime is unknown",
            },
        ),
        (
            "aio_piston",
            {
                **{language: [True, "42\n"] for language in SUMS},
                "failing": [False, "before\n"],
                "endless": [False, ""],
                "broken": [False, ""],
                "unknown": "Error 400 cobol-* runtime is unknown",
            },
        ),
        (
            "judge0",
            [
                ["ACCEPTED", "hi\n"],
                ["WRONG_ANSWER", "1\n"],
                ["RUNTIME_ERROR_NZEC", None],
                ["COMPILATION_ERROR", None],
                *[["ACCEPTED", "42\n"]] * 5,
            ],
        ),
        (
            "sandbox_fusion",
            [
                ["ok", "hi\n"],
                ["failed", ""],
                ["slow", ""],
                ["ok", "42\n"],
                ["not compiled", None],
                *[["ok", "42\n"]] * 5,
            ],
        ),
    ],
)
async def test_client_packages_as_they_are(
    client: aiohttp.ClientSession, package: str, answers: Any
) -> None:
    """The packages that people have, unchanged, in environments of their own."""
    python = ROOT / ".cache" / "clients" / package / "bin" / "python"
    program = ROOT / "tests" / "clients" / f"{package}_client.py"
    assert await said_by(python, program, f"http://127.0.0.1:{port_of(client)}") == answers


async def said_by(*command: Path | str) -> Any:
    """What a program prints, which is JSON."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        output, said = await asyncio.wait_for(process.communicate(), 120)
    except BaseException:
        process.kill()
        raise
    assert process.returncode == 0, said.decode()
    return json.loads(output)


async def test_the_client_of_npm_as_it_is(client: aiohttp.ClientSession) -> None:
    """``piston-client``, unchanged."""
    clients = ROOT / "tests" / "clients"
    said = await said_by(
        "node",
        clients / "piston_client.mjs",
        f"http://127.0.0.1:{port_of(client)}",
        ROOT / ".cache" / "clients" / "piston_client",
        clients / "corpus.json",
    )
    assert said == {
        **dict.fromkeys(SUMS, "42\n"),
        "failing": ["before\n", 3, None],
        "endless": ["", None, "SIGKILL"],
        "broken": 1,
        "unknown": "cobol-* runtime is unknown",
    }
