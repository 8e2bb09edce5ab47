"""An S3-speaking server of the tests' own: SeaweedFS, which can be killed and started again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import aiohttp

from crucible.embedded.lifeline import end_with_parent
from crucible.embedded.server import free_port

if TYPE_CHECKING:
    from types import TracebackType

#: Seconds to start, which is mostly its parts finding one another.
START_S = 90.0
BUCKET, ACCESS_KEY, SECRET_KEY = "results", "test", "secret-of-the-test"
_PARTS = ("master", "volume", "filer", "s3")


class ObjectServer:
    """A server whose data is below ``directory``.

    Attributes:
        environment: what clients have in their environment.
        url: of the bucket.
    """

    url = f"s3://{BUCKET}/crucible"

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ports = {name: (free_port(), free_port()) for name in _PARTS}
        self._process: asyncio.subprocess.Process | None = None
        self._endpoint = f"http://127.0.0.1:{self._ports['s3'][0]}"
        self.environment = {
            "AWS_ENDPOINT": self._endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }

    async def __aenter__(self) -> Self:
        identity: dict[str, Any] = {
            "name": "test",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        (self._directory / "s3.json").write_text(json.dumps({"identities": [identity]}))
        (self._directory / "data").mkdir()
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.kill()

    async def start(self) -> None:
        """Start it, and wait until its bucket takes objects."""
        ports = [
            f"-{name}.port{suffix}={port}"
            for name, pair in self._ports.items()
            for suffix, port in zip(("", ".grpc"), pair, strict=True)
        ]
        weed = Path(sys.executable).parent / "weed"
        log = (self._directory / "log").open("ab")
        with log:
            self._process = await asyncio.create_subprocess_exec(
                *(str(weed), "server", "-ip=127.0.0.1", f"-dir={self._directory / 'data'}"),
                *("-s3", f"-s3.config={self._directory / 's3.json'}", "-volume.max=8", *ports),
                env={"PATH": os.environ["PATH"], "HOME": str(self._directory)},
                cwd=self._directory,
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
                preexec_fn=end_with_parent,
            )
        async with asyncio.timeout(START_S):
            while not await self._serves():
                assert self._process.returncode is None, (self._directory / "log").read_text()
                await asyncio.sleep(0.2)

    async def _serves(self) -> bool:
        import obstore
        from obstore.exceptions import BaseError
        from obstore.store import S3Store

        options: Any = {"allow_http": True, "timeout": "3s"}
        store = S3Store(
            BUCKET,
            endpoint=self._endpoint,
            access_key_id=ACCESS_KEY,
            secret_access_key=SECRET_KEY,
            region="us-east-1",
            client_options=options,
            retry_config={"max_retries": 0},
        )
        try:
            await obstore.put_async(store, "probe", b"1")
        except BaseError:
            await self._make_bucket()
            return False
        return True

    async def _make_bucket(self) -> None:
        """The filer's own way, which needs no signature."""
        filer = f"http://127.0.0.1:{self._ports['filer'][0]}"
        with suppress(aiohttp.ClientError):
            async with aiohttp.ClientSession() as session:
                await (await session.post(f"{filer}/buckets/{BUCKET}/")).read()

    async def kill(self) -> None:
        """As a crash does; waits until it is gone."""
        process = self._process
        if process is not None and process.returncode is None:
            process.send_signal(signal.SIGKILL)
            await process.wait()
