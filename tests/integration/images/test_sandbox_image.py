"""The image that is in the engine, looked at from inside a container."""

from __future__ import annotations

import os
import secrets
import subprocess
from typing import TYPE_CHECKING

import pytest

from crucible.environments import BUILT_IN
from crucible.images import (
    ensure_image,
    list_images,
    load_definition,
    open_engine,
    present_image,
)
from crucible.images.archive import write_archive, write_layer
from crucible.images.build import build_lock
from crucible.images.cleaning import MANIFEST
from crucible.images.layers import Layers
from crucible.images.rootfs import PREFIX
from crucible.images.store import LABEL, engine_machine, load_archive
from crucible.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import aiodocker

    from crucible.settings import Settings

pytestmark = pytest.mark.docker

IMAGES = [one.reference for one in BUILT_IN.values()]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """This machine's settings, with a data directory of the test's own."""
    return load_settings(os.environ, flags={"data_dir": tmp_path})


@pytest.fixture
async def docker(settings: Settings) -> AsyncIterator[aiodocker.Docker]:
    """The engine of the settings."""
    async with open_engine(settings.docker_url) as client:
        yield client


async def in_image(
    docker: aiodocker.Docker, settings: Settings, script: str, image: str = ""
) -> str:
    """What ``script`` prints in a fresh container of an image, as the image's own user."""
    container = await docker.containers.create(
        {
            "Image": image or settings.sandbox_image,
            "Cmd": ["/bin/bash", "-c", script],
            "NetworkDisabled": True,
            "Labels": {"crucible": "tests"},
            "HostConfig": {
                "NetworkMode": "none",
                "ReadonlyRootfs": True,
                "CapDrop": ["ALL"],
                "SecurityOpt": ["no-new-privileges"],
                "Tmpfs": {"/tmp": "mode=1777,exec"},
            },
        }
    )
    try:
        await container.start()
        await container.wait(timeout=60)
        return "".join(await container.log(stdout=True, stderr=True))
    finally:
        await container.delete(force=True, v=True)


async def test_the_image_is_there_and_stays(settings: Settings, tmp_path: Path) -> None:
    """A second build finds the image, builds nothing, and says nothing."""
    said: list[str] = []
    first = await present_image(settings)
    again = await ensure_image(settings, progress=said.append)
    assert first == again
    assert again.definition == load_definition().digest
    assert again.size_bytes < 250_000_000
    assert said == []
    assert list(tmp_path.iterdir()) == []


async def test_images_of_ours_are_listed(settings: Settings, docker: aiodocker.Docker) -> None:
    """The list has the image in use, under its name and the name of its definition."""
    names = {name for info in await list_images(docker) for name in info.tags}
    assert {settings.sandbox_image, load_definition().reference} <= names


async def test_an_image_without_a_name_is_listed_by_none(
    docker: aiodocker.Docker, tmp_path: Path
) -> None:
    """An image whose name went to a newer build does not keep the others from being listed."""
    reference, image_ids = f"crucible-sandbox:test-{secrets.token_hex(4)}", []
    for number in range(2):
        root = tmp_path / f"root{number}"
        root.mkdir()
        (root / "file").write_text(reference + str(number))
        layer, archive = tmp_path / f"{number}.layer", tmp_path / f"{number}.image"
        layers = Layers([layer], [write_layer(root, layer)])
        labels = {LABEL: reference[-8:]}
        machine = await engine_machine(docker)
        image_ids.append(
            write_archive(layers, archive, reference=reference, labels=labels, machine=machine)
        )
        await load_archive(docker, archive)
    try:
        found = [info for info in await list_images(docker) if info.definition == reference[-8:]]
        assert sorted(info.tags for info in found) == [(), (reference,)]
    finally:
        for image_id in image_ids:
            await docker.images.delete(image_id, force=True)


async def test_languages_are_where_they_should_be(
    settings: Settings, docker: aiodocker.Docker
) -> None:
    """Every interpreter and the compiler run from the path that the language table names."""
    script = """
        /usr/bin/python3 -c 'import ctypes, lzma, sqlite3, ssl; print(6 * 7)'
        /usr/bin/node -e 'console.log(6 * 7)'
        /bin/sh -c 'echo $((6 * 7))'
        awk 'BEGIN { print 6 * 7 }' </dev/null
        cd /tmp
        printf '#include <math.h>\\n#include <stdio.h>\\nint main(void)'  >a.c
        printf '{ printf("%%.0f\\\\n", sqrt(1764.0)); return 0; }' >>a.c
        /usr/bin/tcc a.c -lm -o a && ./a
    """
    assert await in_image(docker, settings, script) == "42\n" * 5


@pytest.mark.parametrize("image", IMAGES)
async def test_nothing_gives_privileges(
    settings: Settings, docker: aiodocker.Docker, image: str
) -> None:
    """No set-uid file, no file capability, nothing but sticky directories to write to."""
    script = """
        find / -xdev -perm /6000 2>/dev/null
        find / -xdev ! -type l -perm -o+w ! -path '/proc/*' ! -path '/dev/*' 2>/dev/null | sort
        python3 -c '
import os
for top, _, names in os.walk("/usr"):
    for name in names:
        path = os.path.join(top, name)
        if not os.path.islink(path) and "security.capability" in os.listxattr(path):
            print(path)
'
    """
    assert (await in_image(docker, settings, script, image)).split() == ["/tmp", "/var/tmp"]


@pytest.mark.parametrize("image", IMAGES)
async def test_programs_are_nobody_special(
    settings: Settings, docker: aiodocker.Docker, image: str
) -> None:
    """The image's user is the unprivileged account and can neither own nor read secrets."""
    script = """
        id -u; id -g; id -un
        find / -xdev -user sandbox 2>/dev/null
        cat /etc/shadow 2>/dev/null
        ls -d /work /run /dev/shm
    """
    printed = (await in_image(docker, settings, script, image)).split()
    assert printed == ["1000", "1000", "sandbox", "/dev/shm", "/run", "/work"]


@pytest.mark.parametrize("image", IMAGES)
async def test_every_library_is_there(
    settings: Settings, docker: aiodocker.Docker, image: str
) -> None:
    """No program or library of the image lacks a library it was linked against."""
    script = r"""
        # As Java's launcher has it.
        export LD_LIBRARY_PATH=$(echo /usr/lib/jvm/*/lib /usr/lib/jvm/*/lib/server | tr ' ' :)
        find /usr/bin /usr/sbin /usr/lib -type f \( -perm -100 -o -name '*.so*' \) |
            while read -r file; do
                ldd "$file" 2>/dev/null | grep 'not found' && echo "$file"
            done
        find /usr /etc -xdev -xtype l ! -lname '/proc/*' ! -lname '/run/*' ! -lname '/dev/*'
    """
    assert await in_image(docker, settings, script, image) == ""


async def test_modules_are_compiled_for_good(settings: Settings, docker: aiodocker.Docker) -> None:
    """Python takes its library's compiled modules as they are, although all times are equal."""
    script = r"""
        python3 -v -c 'import json, decimal' 2>/tmp/log
        grep -c "code object from '.*\.pyc'$" /tmp/log
        grep -E "code object from '.*\.py'$|stale|could not|wrote" /tmp/log
    """
    loaded, *compiled = (await in_image(docker, settings, script)).splitlines()
    assert int(loaded) > 10
    assert compiled == []


async def test_the_image_tells_its_packages(settings: Settings, docker: aiodocker.Docker) -> None:
    """The manifest inside names the packages with their versions."""
    lines = (await in_image(docker, settings, f"cat /{MANIFEST}")).splitlines()
    names = {line.partition("=")[0] for line in lines}
    assert {"bash", "coreutils", "nodejs", "python3", "tcc"} <= names
    assert not names & {"apt", "dpkg", "perl-base"}
    assert all("=" in line for line in lines)


async def test_a_killed_builds_leftovers_go(tmp_path: Path) -> None:
    """What a killed build left is removed by the next one, once it has the lock."""
    left = tmp_path / "images" / f"{PREFIX}left"
    (left / "usr").mkdir(parents=True)
    async with build_lock(tmp_path / "images", print):
        assert not left.exists()


def test_setup_has_nothing_to_do_twice() -> None:
    """A set-up after a set-up is silent: everything is found as the first one left it."""
    command = ["scripts/setup"]
    subprocess.run(command, capture_output=True, timeout=170, check=True)
    again = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
