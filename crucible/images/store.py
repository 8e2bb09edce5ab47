"""Images in a Docker engine: find, list, tag, load, pull."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import aiodocker
import aiohttp
import msgspec

from crucible.environments import REPOSITORY, VERSIONS_LABEL, versions_of
from crucible.errors import RequirementError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from crucible.images.rootfs import Progress

#: Label of every image built here; its value is the definition's digest.
LABEL = "crucible.image.definition"
DEFAULT_URL = "unix:///var/run/docker.sock"
ENGINE_REMEDY = "start Docker, or run `make setup`, or set CRUCIBLE_DOCKER_URL"
#: Seconds an engine may take to answer a request, to load an image, to pull one.
ANSWER_S = 30.0
LOAD_S = 600.0
PULL_S = 600.0
_CHUNK = 1 << 20
#: aiodocker's status for a failed connection.
_UNREACHABLE = 900
_NOT_FOUND = 404


class ImageInfo(msgspec.Struct, frozen=True, kw_only=True):
    """An image in the engine.

    Attributes:
        reference: the name it was looked up by.
        image_id: ``sha256:…`` of its configuration, which names its content.
        tags: all its names.
        size_bytes: uncompressed.
        created: ISO time; the same for all images built here.
        definition: digest of the definition it was built from; empty for other images.
        versions: of the languages in it, as far as they were asked for when it was built.
    """

    reference: str
    image_id: str
    tags: tuple[str, ...] = ()
    size_bytes: int = 0
    created: str = ""
    definition: str = ""
    versions: dict[str, str] = {}


@contextlib.asynccontextmanager
async def open_engine(docker_url: str) -> AsyncIterator[aiodocker.Docker]:
    """A client of the engine at ``docker_url`` (empty: its default socket).

    Raises:
        RequirementError: the URL cannot be used.
    """
    async with contextlib.AsyncExitStack() as stack:
        try:
            docker = await stack.enter_async_context(
                aiodocker.Docker(url=docker_url or DEFAULT_URL)
            )
        except (OSError, ValueError) as error:
            raise RequirementError(f"no Docker engine: {error}", ENGINE_REMEDY) from error
        yield docker


@contextlib.asynccontextmanager
async def answer_within(deadline_s: float) -> AsyncIterator[None]:
    """Put a deadline on engine calls and translate the client library's errors.

    Raises:
        RequirementError: the engine does not answer or reports an error.
    """
    try:
        async with asyncio.timeout(deadline_s):
            yield
    except aiodocker.DockerError as error:
        remedy = ENGINE_REMEDY if error.status == _UNREACHABLE else ""
        raise RequirementError(f"Docker engine: {error.message}", remedy) from error
    except TimeoutError as error:
        raise RequirementError(f"no answer from the Docker engine in {deadline_s:.0f} s") from error
    except (aiohttp.ClientError, OSError) as error:
        raise RequirementError(f"Docker engine: {error}", ENGINE_REMEDY) from error


async def find_image(docker: aiodocker.Docker, reference: str) -> ImageInfo | None:
    """The image ``reference``, or None if the engine does not have it."""
    async with answer_within(ANSWER_S):
        try:
            found = await docker.images.inspect(reference)
        except aiodocker.DockerError as error:
            if error.status == _NOT_FOUND:
                return None
            raise
    labels = (found.get("Config") or {}).get("Labels") or {}
    return ImageInfo(
        reference=reference,
        image_id=str(found["Id"]),
        tags=tuple(sorted(found.get("RepoTags") or ())),
        size_bytes=int(found.get("Size") or 0),
        created=str(found.get("Created") or ""),
        definition=labels.get(LABEL, ""),
        versions=versions_of(labels.get(VERSIONS_LABEL, "")),
    )


async def list_images(docker: aiodocker.Docker) -> list[ImageInfo]:
    """Every image built by Crucible, by name."""
    async with answer_within(ANSWER_S):
        rows = await docker.images.list(filters={"label": [LABEL]})
    infos = []
    for row in rows:
        # An image that lost its name to a newer build has this one, or none.
        tags = sorted(set(row.get("RepoTags") or ()) - {"<none>:<none>"})
        if info := await find_image(docker, tags[0] if tags else row["Id"]):
            infos.append(info)
    return sorted(infos, key=lambda info: info.reference)


async def tag_image(docker: aiodocker.Docker, image: str, name: str) -> None:
    """Give an image another name, ``repository:tag``."""
    repository, _, tag = name.rpartition(":")
    if not repository or "/" in tag:
        repository, tag = name, "latest"
    async with answer_within(ANSWER_S):
        await docker.images.tag(image, repository, tag=tag)


async def load_archive(docker: aiodocker.Docker, archive: Path) -> None:
    """Load an image archive into the engine."""

    async def chunks() -> AsyncIterator[bytes]:
        with archive.open("rb") as file:
            while block := await asyncio.to_thread(file.read, _CHUNK):
                yield block

    async with answer_within(LOAD_S):
        await docker.images.import_image(chunks())


async def pull_image(docker: aiodocker.Docker, reference: str, progress: Progress) -> str:
    """Pull ``reference``; returns the reason if that failed, else an empty string."""
    progress(f"pulling {reference}")
    try:
        async with answer_within(PULL_S):
            await docker.images.pull(reference)
    except RequirementError as error:
        return str(error)
    return ""


async def engine_machine(docker: aiodocker.Docker) -> str:
    """The engine's architecture as images name it, such as ``amd64``."""
    async with answer_within(ANSWER_S):
        version: dict[str, Any] = await docker.version()
    return str(version.get("Arch") or "amd64")


def is_local(reference: str) -> bool:
    """Whether ``reference`` names a local image, which no registry can have."""
    return reference == REPOSITORY or reference.startswith((f"{REPOSITORY}:", "sha256:"))


def is_pinned(reference: str) -> bool:
    """Whether ``reference`` pins the content by its digest, so that no other image may be used."""
    return "@" in reference or reference.startswith("sha256:")
