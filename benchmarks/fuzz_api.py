"""Generated requests against a real api: ``python -m benchmarks.fuzz_api --requests 5000``.

An api process over an embedded queue server is asked, without keys and with one, what Schemathesis
makes of its own OpenAPI document: valid and invalid requests of every operation. No answer may be a
5xx or one that the document does not have.

Evaluations and sessions are those of a worker that runs nothing (``fake_worker``), so that no
container is started. Of streams of events the first chunk is read (``cut_streams``). Left out is
only, in the part without keys, what makes keys: the service takes no request without one from then
on.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.cut_streams import cutting_streams
from benchmarks.fake_worker import fake_worker
from crucible.broker.redis.connection import open_client
from crucible.embedded.lifeline import end_with_parent
from crucible.embedded.server import EmbeddedServer, free_port
from crucible.history.database import open_database
from crucible.history.migrate import migrate
from crucible.identity.key_store import KeyStore
from crucible.identity.keys import checked_request
from crucible.redis_keys import Keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

#: What no answer may violate.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
_COUNTED = re.compile(r"(\d+) generated")
_KEYS = ("/api/v1/keys",)
#: Operations that are asked, about: what one is asked less, others are asked more.
_OPERATIONS = 60
#: Seconds until the api listens, and that one request may take.
_START_S, _REQUEST_S = 120.0, 60.0


class Fuzzed(NamedTuple):
    """What one part of a run found.

    Attributes:
        requests: that were sent.
        failures: what was wrong, for people; empty where nothing was.
    """

    requests: int
    failures: str


@asynccontextmanager
async def serving(url: str, **settings: str) -> AsyncIterator[str]:
    """An api process over a queue server; yields its address."""
    port = free_port()
    environment = os.environ | {
        "CRUCIBLE_PORT": str(port),
        "CELERY_BROKER_URL": url,
        "CRUCIBLE_EVENT_BUS_URL": url,
        "CRUCIBLE_MAX_WAIT_S": "0.01",
        **settings,
    }
    api = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "crucible", "api"),
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
        preexec_fn=end_with_parent,
    )
    try:
        async with asyncio.timeout(_START_S):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    if api.returncode is not None:
                        raise
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    break
        yield f"http://127.0.0.1:{port}"
    finally:
        if api.returncode is None:
            api.terminate()
        await api.wait()


async def fuzz(
    address: str,
    directory: Path,
    *,
    per_operation: int,
    seed: int,
    key: str = "",
    phases: str = "coverage,fuzzing",
    without: Sequence[str] = (),
) -> Fuzzed:
    """Send generated requests of every operation.

    Args:
        address: of the api.
        directory: for the report.
        per_operation: requests of each kind for one operation, at most.
        seed: the same requests for the same seed.
        key: sent with each; empty for none.
        phases: of Schemathesis: ``coverage`` tries the limits of each field, ``fuzzing`` anything.
        without: paths that are not asked.
    """
    left_out = (*without, *(() if key else _KEYS))
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"{address}/openapi.json",
        "--checks", ",".join(CHECKS), "--phases", phases,
        "--max-examples", str(per_operation), "--seed", str(seed), "--request-timeout",
        str(_REQUEST_S), "--suppress-health-check", "all", "--continue-on-failure", "--warnings",
        "off", "--no-color", "--no-shrink", "--generation-database", "none",
        *(one for path in left_out for one in ("--exclude-path", path)),
        *(("-H", f"Authorization: Bearer {key}") if key else ()),
    ]  # fmt: skip
    run = await asyncio.create_subprocess_exec(
        *command,
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        preexec_fn=end_with_parent,
    )
    output = (await run.communicate())[0].decode(errors="replace")
    counted = _COUNTED.search(output)
    return Fuzzed(int(counted[1]) if counted else 0, output if run.returncode else "")


async def admin_key(url: str) -> str:
    """A key that may do everything."""
    asked = checked_request(
        {"name": "fuzz", "tenant": "fuzz", "scopes": ["submit", "read", "admin"]}
    )
    async with open_client(url, name="keys") as client:
        _, secret = await KeyStore(client, Keys()).create(asked)
    return secret


@asynccontextmanager
async def prepared(directory: Path, *, keyed: bool) -> AsyncIterator[tuple[str, str]]:
    """An api with a history; yields its address and a key, which is empty without keys."""
    history = f"sqlite:///{directory}/history.sqlite"
    async with open_database(history) as engine:
        await migrate(engine)
    async with EmbeddedServer(directory / "queue") as server:
        key = await admin_key(server.url) if keyed else ""
        async with (
            fake_worker(server.url),
            serving(server.url, CRUCIBLE_HISTORY_URL=history) as address,
            cutting_streams(int(address.rpartition(":")[2])) as port,
        ):
            yield f"http://127.0.0.1:{port}", key


async def run(requests: int, seed: int) -> int:
    """Both parts; the exit code."""
    failed, total = False, 0
    for keyed in (False, True):
        with TemporaryDirectory(prefix="crucible-fuzz-") as name:
            async with prepared(Path(name), keyed=keyed) as (address, key):
                found = await fuzz(
                    address,
                    Path(name),
                    per_operation=max(1, requests // _OPERATIONS),
                    seed=seed,
                    key=key,
                )
        print(f"{'with a key' if keyed else 'without keys'}: {found.requests} requests", flush=True)
        if found.failures:
            print(found.failures)
        failed, total = failed or bool(found.failures), total + found.requests
    print(f"{total} requests, {'failures' if failed else 'nothing found'}")
    return int(failed or total < requests)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=5000, help="at least so many")
    parser.add_argument("--seed", type=int, default=16)
    parsed = parser.parse_args(arguments)
    return asyncio.run(run(parsed.requests, parsed.seed))


if __name__ == "__main__":
    sys.exit(main())
