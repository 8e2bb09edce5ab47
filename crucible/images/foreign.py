"""Makes an environment of an external image: looks into it, labels it, tags it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from crucible.environments import REPOSITORY, VERSIONS_LABEL
from crucible.errors import RequirementError
from crucible.executor.languages import languages_of
from crucible.images.rootfs import version_in
from crucible.images.store import LABEL, answer_within, find_image, pull_image

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import aiodocker

    from crucible.environments import Environment
    from crucible.images.rootfs import Progress
    from crucible.images.store import ImageInfo

#: Seconds in which all programs of an image have to have printed their versions.
LOOK_S = 120.0
#: Runs inside the image: commands in, what they print out. Exit code 3: one is not there.
_LOOK = """\
import json, subprocess, sys
found = {}
for name, command in json.loads(sys.argv[1]).items():
    try:
        done = subprocess.run(command, stdout=-1, stderr=-2, stdin=-3, timeout=30)
    except OSError as error:
        sys.exit(f"{name}: {error}")
    found[name] = done.stdout.decode("utf-8", "replace")
print(json.dumps(found))
"""


async def adopt_image(
    docker: aiodocker.Docker, environment: Environment, digest: str, progress: Progress
) -> ImageInfo:
    """Bring an environment's external image into the engine, under the environment's name.

    It gets one more name and labels; its file system stays as it is.

    Args:
        docker: the engine.
        environment: has the image.
        digest: of the environment's definition.
        progress: called with one line for people at each step.

    Raises:
        RequirementError: the image cannot be pulled, or lacks Python or a language it should have.
    """
    if not await find_image(docker, environment.image) and (
        why := await pull_image(docker, environment.image, progress)
    ):
        raise RequirementError(f"cannot pull {environment.image}: {why}", "load it into the engine")
    progress(f"looking into {environment.image}")
    asking = {one.name: one.version for one in languages_of(environment).values() if one.version}
    async with answer_within(LOOK_S):
        container = await docker.containers.create(_container(environment, asking))
        try:
            versions = await _look(container, environment)
            labels = {LABEL: digest, VERSIONS_LABEL: msgspec.json.encode(versions).decode()}
            await container.commit(
                repository=REPOSITORY, tag=environment.name, config={"Labels": labels}
            )
        finally:
            await container.delete(force=True, v=True)
    info = await find_image(docker, environment.reference)
    if info is None:
        raise RequirementError(f"the engine does not show {environment.reference}")
    return info


def _container(environment: Environment, asking: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """A container with no rights, for programs that only print their version."""
    return {
        "Image": environment.image,
        "Entrypoint": ["/usr/bin/python3"],
        "Cmd": ["-c", _LOOK, msgspec.json.encode(asking).decode()],
        "NetworkDisabled": True,
        "User": "65534:65534",
        "HostConfig": {
            "CapDrop": ["ALL"],
            "NetworkMode": "none",
            "PidsLimit": 128,
            "ReadonlyRootfs": True,
            "SecurityOpt": ["no-new-privileges:true"],
            "Tmpfs": {"/tmp": "mode=1777"},  # noqa: S108 - in the container
        },
    }


async def _look(container: Any, environment: Environment) -> dict[str, str]:
    await container.start()
    ended = await container.wait()
    printed = "".join(await container.log(stdout=True))
    if ended["StatusCode"]:
        complaint = "".join(await container.log(stderr=True)).strip()
        raise RequirementError(f"{environment.image} cannot be used: {complaint[-500:]}")
    texts = msgspec.json.decode(printed, type=dict[str, str])
    return {name: version_in(text) for name, text in texts.items()}
