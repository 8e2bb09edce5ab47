"""The command lines that fill an image, and what people are told meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from crucible.errors import RequirementError
from crucible.images.definition import ImageDefinition
from crucible.images.rootfs import (
    compile_commands,
    debootstrap_command,
    pip_command,
    python_library,
    stage_of,
)
from crucible.images.store import is_local, is_pinned


def test_packages_are_verified_and_no_mirror_is_named() -> None:
    """Signatures are checked always, and the archive is the installer's own unless one is set."""
    command = debootstrap_command("debootstrap", ImageDefinition(), Path("/r"), "")
    assert "--force-check-gpg" in command
    assert command[-2:] == ["bookworm", "/r"]
    assert "--include=libc6-dev,libnss-myhostname,nodejs,python3,tcc" in command
    assert debootstrap_command("d", ImageDefinition(), Path("/r"), "file:///m")[-1] == "file:///m"


def test_python_packages_are_picked_for_the_image(tmp_path: Path) -> None:
    """Wheels are chosen by the image's Python, whatever Python builds it."""
    (tmp_path / "usr/lib/python3.11").mkdir(parents=True)
    (tmp_path / "usr/lib/python3.11/os.py").touch()
    command = pip_command(ImageDefinition(python_packages=("six==1.16.0",)), tmp_path)
    assert command[command.index("--python-version") + 1] == "3.11"
    assert command[-1] == "six==1.16.0"
    assert str(tmp_path / "usr/local/lib/python3.11/dist-packages") in command
    assert len(compile_commands(tmp_path)) == 1


def test_an_image_needs_python(tmp_path: Path) -> None:
    """A tree without Python is refused in words."""
    with pytest.raises(RequirementError, match="no Python"):
        python_library(tmp_path)


@pytest.mark.parametrize(
    ("line", "stage"),
    [
        ("I: Retrieving bash 5.2", "downloading packages"),
        ("I: Unpacking bash...", "unpacking packages"),
        ("I: Configuring libc-bin...", "configuring packages"),
        ("W: Retrieving", ""),
        ("I: Base system installed successfully.", ""),
        ("", ""),
    ],
)
def test_stages(line: str, stage: str) -> None:
    """An installer's line is told as the stage it belongs to."""
    assert stage_of(line) == stage


@pytest.mark.parametrize(
    ("reference", "local", "pinned"),
    [
        ("crucible-sandbox", True, False),
        ("crucible-sandbox:latest", True, False),
        ("sha256:00", True, True),
        ("crucible-sandbox-x:1", False, False),
        ("host/crucible-sandbox:1", False, False),
        ("host/x@sha256:00", False, True),
    ],
)
def test_kinds_of_references(reference: str, local: bool, pinned: bool) -> None:
    """What can be pulled, and what nothing else may stand for, shows in the name."""
    assert (is_local(reference), is_pinned(reference)) == (local, pinned)
