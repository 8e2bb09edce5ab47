"""Makes sure the engine has the sandbox image: finds it, pulls it, or builds it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from crucible.environments import DEFAULT, LATEST, REPOSITORY, VERSIONS_LABEL
from crucible.errors import RequirementError
from crucible.executor.languages import languages_of
from crucible.images.archive import write_archive, write_layer
from crucible.images.definition import load_definition
from crucible.images.layers import Layers, export_layers
from crucible.images.rootfs import PREFIX, installed_tree
from crucible.images.store import (
    LABEL,
    engine_machine,
    find_image,
    is_local,
    is_pinned,
    load_archive,
    open_engine,
    pull_image,
    tag_image,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiodocker

    from crucible.environments import Environment
    from crucible.images.definition import ImageDefinition
    from crucible.images.rootfs import Progress
    from crucible.images.store import ImageInfo
    from crucible.settings import Settings

#: Seconds to wait for another build on this machine, and between two attempts to take its lock.
LOCK_S = 1800.0
LOCK_LOOK_S = 0.5


async def present_image(settings: Settings) -> ImageInfo | None:
    """The sandbox image if the engine has it as the settings define it, else None.

    Raises:
        SettingsError: the operator's package list cannot be used.
        RequirementError: no engine.
    """
    definition = load_definition(settings.sandbox_packages_file)
    wanted = settings.sandbox_image
    async with open_engine(settings.docker_url) as docker:
        info = await find_image(docker, wanted)
    if info and follows_definition(wanted, definition) and info.definition != definition.digest:
        return None
    return info


def follows_definition(wanted: str, definition: ImageDefinition) -> bool:
    """Whether ``wanted`` means "built from the current definition", not one particular image."""
    return wanted in {REPOSITORY, LATEST, definition.reference}


async def ensure_image(
    settings: Settings, *, progress: Progress = lambda _line: None, rebuild: bool = False
) -> ImageInfo:
    """The sandbox image, pulled or built if the engine does not have it.

    Args:
        settings: image, engine, additional packages, build directory.
        progress: called with one line of text at each step; never if the image exists.
        rebuild: build even if an image of the same definition exists.

    Raises:
        SettingsError: the operator's package list cannot be used.
        RequirementError: no engine, or the image can neither be pulled nor built.
    """
    definition = load_definition(settings.sandbox_packages_file)
    wanted = settings.sandbox_image
    if not rebuild and (found := await present_image(settings)):
        return found
    async with open_engine(settings.docker_url) as docker:
        own = follows_definition(wanted, definition)
        if not own:
            if found := await _foreign(docker, wanted, progress):
                return found
            progress(f"building Crucible's own image instead of {wanted}")
        workspace = workspace_of(settings)
        async with build_lock(workspace, progress):
            # Checked again: another build may have made it while this one waited for the lock.
            info = None if rebuild else await find_image(docker, definition.reference)
            info = info or await build_image(
                docker,
                definition,
                workspace,
                mirror=settings.debian_mirror,
                progress=progress,
            )
            await tag_image(docker, info.image_id, LATEST if own else wanted)
        return await find_image(docker, wanted) or info


async def build_image(
    docker: aiodocker.Docker,
    definition: ImageDefinition,
    workspace: Path,
    *,
    mirror: str = "",
    progress: Progress = lambda _line: None,
    environment: Environment = DEFAULT,
    base: str = "",
) -> ImageInfo:
    """Build ``definition`` from Debian packages and load it into the engine.

    Args:
        docker: the engine.
        definition: what the image contains.
        workspace: an existing directory for the tree and the archive, 1 to 4 GB for a minute or
            two, and the packages, which stay for the next build.
        mirror: URL of a Debian archive; empty means debootstrap's default.
        progress: called with one line of text at each step.
        environment: whose image it is.
        base: an image that it is put on top of as one more layer; empty for none.

    Raises:
        RequirementError: it cannot be built here.
    """
    machine = await engine_machine(docker)
    languages = languages_of(environment).values()
    asking = {one.name: one.version for one in languages if one.version}
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=workspace) as directory:
        layer, archive = Path(directory, "layer.tar"), Path(directory, "image.tar")
        async with installed_tree(
            definition,
            workspace,
            mirror=mirror,
            progress=progress,
            kept=_kept_packages(workspace),
            asking=asking,
        ) as tree:
            progress("packing")
            layers = await export_layers(docker, base, Path(directory)) if base else Layers()
            below = layers.entries if base else None
            digest = await asyncio.to_thread(write_layer, tree.root, layer, below)
        labels = {
            LABEL: definition.digest,
            "crucible.image.suite": definition.suite,
            VERSIONS_LABEL: msgspec.json.encode(tree.versions, order="sorted").decode(),
        }
        image = await asyncio.to_thread(
            write_archive,
            Layers([*layers.paths, layer], [*layers.digests, digest]),
            archive,
            reference=definition.reference,
            labels=labels,
            machine=machine,
        )
        progress("loading the image into the engine")
        await load_archive(docker, archive)
    info = await find_image(docker, definition.reference)
    if info is None:
        raise RequirementError(f"the engine loaded {image} but does not list it")
    progress(f"built {info.reference}, {info.size_bytes / 1e6:.0f} MB")
    return info


async def _foreign(
    docker: aiodocker.Docker, reference: str, progress: Progress
) -> ImageInfo | None:
    """An image that Crucible did not build, from the engine or its registry.

    None if Crucible's own image may replace it: it could not be pulled, and its name does not pin
    its content.
    """
    if found := await find_image(docker, reference):
        return found
    if is_local(reference):
        raise RequirementError(
            f"the engine has no image {reference}, and it cannot be pulled",
            "unset CRUCIBLE_SANDBOX_IMAGE, or load the image",
        )
    why = await pull_image(docker, reference, progress)
    if not why:
        return await find_image(docker, reference)
    if is_pinned(reference):
        raise RequirementError(f"cannot pull {reference}: {why}", "load it, or use another image")
    progress(f"cannot pull {reference}: {why}")
    return None


def _kept_packages(workspace: Path) -> Path:
    """Where packages stay for the next build."""
    kept = workspace / "packages"
    kept.mkdir(exist_ok=True)
    return kept


def workspace_of(settings: Settings) -> Path:
    """The directory for trees and archives during a build."""
    # Installers run elsewhere than here.
    return settings.data_dir.absolute() / "images"


@contextlib.asynccontextmanager
async def build_lock(workspace: Path, progress: Progress) -> AsyncIterator[None]:
    """Hold the lock of ``workspace``; leftovers of a killed build are removed first.

    Raises:
        RequirementError: another build held it for ``LOCK_S``, or the directory cannot be made.
    """
    handle = _open_lock(workspace)
    try:
        await _take(handle, progress)
        await asyncio.to_thread(_remove_leftovers, workspace)
        yield
    finally:
        os.close(handle)


async def _take(handle: int, progress: Progress) -> None:
    reported = False
    try:
        async with asyncio.timeout(LOCK_S):
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if not reported:
                        progress("another build is running; waiting for it")
                        reported = True
                    await asyncio.sleep(LOCK_LOOK_S)
                else:
                    return
    except TimeoutError as error:
        raise RequirementError(f"another image build took more than {LOCK_S:.0f} s") from error


def _open_lock(workspace: Path) -> int:
    try:
        workspace.mkdir(parents=True, exist_ok=True)
        return os.open(workspace / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise RequirementError(
            f"cannot use {workspace} to build images: {error}", "set CRUCIBLE_DATA_DIR"
        ) from error


def _remove_leftovers(workspace: Path) -> None:
    """Remove the trees of killed builds: this process holds the lock, so no other build runs."""
    for left in workspace.glob(f"{PREFIX}*"):
        shutil.rmtree(left, ignore_errors=True)
