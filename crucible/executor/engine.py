"""The container engine: the few calls a sandbox needs, each with a deadline.

The one place that knows aiodocker. Whatever it, aiohttp or the socket raise leaves here as an
``ExecutorError``.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self

import aiodocker
import aiohttp
import msgspec

from crucible.errors import ExecutorRefused, ExecutorUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from aiodocker.stream import Stream

#: Answers that another try cannot change: a bad request, a missing image, an unknown runtime.
_PERMANENT = frozenset({400, 401, 403, 406})

#: Seconds for which an image's name is taken to stand for the same digest.
PIN_S = 10.0


class ContainerGone(ExecutorUnavailable):
    """The engine does not know the container any more."""


class ContainerNotRemoved(ExecutorUnavailable):
    """The engine works and could not remove this container; it may at another try."""


@contextlib.asynccontextmanager
async def translated(doing: str, deadline_s: float) -> AsyncIterator[None]:
    """Turn what the engine's libraries raise into our errors, within a deadline.

    Raises:
        ExecutorRefused: the engine understood and will never do it.
        ExecutorUnavailable: it did not answer, or not this time.
    """
    with translating(doing):
        try:
            async with asyncio.timeout(deadline_s):
                yield
        except TimeoutError as error:
            raise ExecutorUnavailable(f"{doing}: no answer in {deadline_s} s") from error


@contextlib.contextmanager
def translating(doing: str) -> Iterator[None]:
    """Turn what the engine's libraries raise into our errors; the caller keeps the time.

    Raises:
        ExecutorRefused: the engine understood and will never do it.
        ExecutorUnavailable: it did not answer, or not this time.
    """
    try:
        yield
    except aiodocker.DockerError as error:
        raise _translate(doing, error) from error
    except (aiohttp.ClientError, OSError, ValueError, AssertionError, RuntimeError) as error:
        # The last three are aiodocker's and aiohttp's own words for a connection lost at a bad
        # moment (no socket found, upgraded connection already gone, session closing).
        raise ExecutorUnavailable(f"{doing}: {str(error) or type(error).__name__}") from error


def _translate(doing: str, error: aiodocker.DockerError) -> Exception:
    text = f"{doing}: {error.message}"
    lowered = str(error.message).lower()
    if error.status == 404 and "image" in lowered:
        return ExecutorRefused(text)
    if error.status == 404:
        return ContainerGone(text)
    if error.status in _PERMANENT or ("runtime" in lowered and "unknown" in lowered):
        return ExecutorRefused(text)
    return ExecutorUnavailable(text)


class EngineHost(msgspec.Struct, frozen=True, kw_only=True):
    """The machine an engine runs on.

    Attributes:
        machine: its architecture, as its kernel names it.
        apparmor: containers are confined by AppArmor.
    """

    machine: str
    apparmor: bool


class Attachment:
    """The two ends of a container's descriptors: write to 0, read from 1 and 2."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    async def write(self, data: bytes) -> None:
        """Write all of ``data`` to descriptor 0."""
        with translating("write to sandbox"):
            await self._stream.write_in(data)

    async def read(self) -> tuple[int, bytes] | None:
        """The next piece and the descriptor it came from; None once the container has ended."""
        with translating("read from sandbox"):
            message = await self._stream.read_out()
        return None if message is None else (message.stream, message.data)

    async def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(aiohttp.ClientError, OSError, AssertionError):
            await self._stream.close()


class Engine:
    """A connection to a Docker-compatible engine.

    Args:
        url: its address, or None to find it as the ``docker`` command would.
        deadline_s: longest wait for one answer.
    """

    def __init__(self, url: str | None = None, deadline_s: float = 15.0) -> None:
        self._url = url
        self._deadline_s = deadline_s
        self._client: aiodocker.Docker | None = None
        self._pins: dict[str, tuple[str, float]] = {}
        self._host: EngineHost | None = None

    async def __aenter__(self) -> Self:
        with translating("connect to the container engine"):
            self._client = aiodocker.Docker(url=self._url)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._client is not None:
            await self._client.close()

    @property
    def _docker(self) -> aiodocker.Docker:
        if self._client is None:
            raise ExecutorUnavailable("the engine is not open")
        return self._client

    async def version(self) -> dict[str, Any]:
        """What the engine says it is."""
        async with translated("ask the engine's version", self._deadline_s):
            return dict(await self._docker.version())

    async def host(self) -> EngineHost:
        """What the engine's machine is like; asked once."""
        if self._host is None:
            async with translated("ask what the engine's machine is", self._deadline_s):
                info = await self._docker.system.info()
            options = info.get("SecurityOptions") or ()
            self._host = EngineHost(
                machine=str(info.get("Architecture", "")),
                apparmor=any("name=apparmor" in str(option) for option in options),
            )
        return self._host

    async def image_id(self, image: str) -> str:
        """The digest an image name stands for now.

        Raises:
            ExecutorRefused: there is no such image.
        """
        return str((await self.image(image))["Id"])

    async def image(self, image: str) -> dict[str, Any]:
        """What the engine knows of an image.

        Raises:
            ExecutorRefused: there is no such image.
        """
        async with translated(f"look up image {image}", self._deadline_s):
            return dict(await self._docker.images.inspect(image))

    async def pinned(self, image: str) -> str:
        """The same, looked up at most every ``PIN_S`` seconds."""
        found, until_s = self._pins.get(image, ("", 0.0))
        if not found or time.monotonic() > until_s:
            found = await self.image_id(image)
            self._pins[image] = found, time.monotonic() + PIN_S
        return found

    async def create(self, body: dict[str, Any], name: str | None = None) -> str:
        """Create a container; its id."""
        async with translated("create sandbox", self._deadline_s):
            container = await self._docker.containers.create(body, name=name)
        return str(container.id)

    async def attach(self, container_id: str) -> Attachment:
        """Attach to descriptors 0, 1 and 2; done before the start, nothing is missed."""
        container = self._docker.containers.container(container_id)
        stream = container.attach(stdin=True, stdout=True, stderr=True)
        async with translated("attach to sandbox", self._deadline_s):
            await stream.__aenter__()
        return Attachment(stream)

    async def start(self, container_id: str) -> None:
        """Start a created or stopped container."""
        async with translated("start sandbox", self._deadline_s):
            await self._docker.containers.container(container_id).start()

    async def update(self, container_id: str, body: dict[str, Any]) -> None:
        """Change the limits of a container; aiodocker has no call of its own for it."""
        path = f"containers/{container_id}/update"
        async with translated("update sandbox", self._deadline_s):
            await self._docker._query_json(path, "POST", data=body)  # noqa: SLF001

    async def kill(self, container_id: str) -> None:
        """SIGKILL the whole container; one that has ended already is fine."""
        try:
            async with translated("kill sandbox", self._deadline_s):
                await self._docker.containers.container(container_id).kill()
        except ExecutorUnavailable as error:
            cause = error.__cause__
            if not (isinstance(cause, aiodocker.DockerError) and cause.status in (404, 409)):
                raise

    async def wait(self, container_id: str) -> None:
        """Wait until a container is not running."""
        async with translated("wait for sandbox", self._deadline_s):
            await self._docker.containers.container(container_id).wait()

    async def state(self, container_id: str) -> dict[str, Any]:
        """The ``State`` part of an inspection."""
        async with translated("inspect sandbox", self._deadline_s):
            shown = await self._docker.containers.container(container_id).show()
        return dict(shown["State"])

    async def remove(self, container_id: str) -> None:
        """Kill and remove a container; one that is gone or going is fine.

        Raises:
            ContainerNotRemoved: the engine failed with this one.
            ExecutorUnavailable: it did not answer.
        """
        try:
            async with translated("remove sandbox", self._deadline_s):
                await self._docker.containers.container(container_id).delete(force=True, v=True)
        except ExecutorUnavailable as error:
            cause = error.__cause__
            status = cause.status if isinstance(cause, aiodocker.DockerError) else None
            if status == HTTPStatus.INTERNAL_SERVER_ERROR:
                raise ContainerNotRemoved(str(error)) from cause
            if status not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                raise

    async def labelled(self, label: str) -> dict[str, str]:
        """Containers that carry ``label``, running or not: id and the label's value."""
        async with translated("list sandboxes", self._deadline_s):
            found = await self._docker.containers.list(all=True, filters={"label": [label]})
        return {item.id: str(item["Labels"].get(label, "")) for item in found}
