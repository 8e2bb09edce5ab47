"""Whose container is an orphan."""

from __future__ import annotations

import os
import socket
import subprocess

import pytest

from crucible.executor.config import own_name
from crucible.executor.reaper import is_dead

HOST = socket.gethostname()


def test_this_process_lives() -> None:
    """The own name stands for a living process."""
    assert own_name() == own_name()
    assert not is_dead(own_name(), HOST)


def test_a_gone_process_is_dead() -> None:
    """A pid that nobody has, and one that somebody else has by now, are both dead."""
    child = subprocess.Popen(["true"])
    child.wait()
    assert is_dead(f"{HOST}:{child.pid}:1", HOST)
    assert is_dead(f"{HOST}:{os.getpid()}:1", HOST)


@pytest.mark.parametrize(
    "owner", ["", "x", "a:b", f"{HOST}:x:1", f"{HOST}:1:x", "elsewhere:1:1", "::", "somebody"]
)
def test_others_are_left_alone(owner: str) -> None:
    """Another host's process, and a name of another form, cannot be judged from here."""
    assert not is_dead(owner, HOST)
