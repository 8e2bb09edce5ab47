"""What isolation ``nested`` takes of a machine, and which of it is missing where it fails. Pure."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from crucible.errors import ExecutorRefused, ExecutorUnavailable, RequirementError
from crucible.executor.nested.options import APPARMOR_PROFILE
from crucible.executor.nested.syscall_filter import MACHINES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crucible.executor.engine import EngineHost


class NestedUnavailable(ExecutorRefused):
    """This machine cannot give programs of a container namespaces of their own.

    Attributes:
        missing: what it lacks, and what to type.
    """

    def __init__(
        self, detail: str = "", retries: int = 0, missing: RequirementError | None = None
    ) -> None:
        super().__init__(detail, retries)
        self.missing = missing or RequirementError(detail)


def nested_unavailable(missing: RequirementError) -> NestedUnavailable:
    """The refusal of programs for want of something."""
    detail = f"isolation: nested cannot be had here: {missing.message}"
    return NestedUnavailable(detail, missing=missing)


class Symptom(msgspec.Struct, frozen=True):
    """How a missing requirement shows itself.

    Attributes:
        words: all of them stand in what the lane or the engine complains of.
        cause: what is missing.
        remedy: what to type.
    """

    words: tuple[str, ...]
    cause: str
    remedy: str


_LOAD_PROFILE = (
    "crucible doctor --apparmor-profile | sudo tee /etc/apparmor.d/crucible-lane && "
    "sudo apparmor_parser -r /etc/apparmor.d/crucible-lane"
)
_ALLOW_USERS = "sudo sysctl -w kernel.unprivileged_userns_clone=1"
_NEWER_KERNEL = "boot a kernel of 5.10 or later with CONFIG_USER_NS=y"
#: In this order: the first that fits says it. Numbers are those of ``unshare``'s flags.
SYMPTOMS = (
    Symptom(
        ("apparmor", APPARMOR_PROFILE),
        f"the AppArmor profile {APPARMOR_PROFILE} is not loaded",
        _LOAD_PROFILE,
    ),
    Symptom(("apparmor",), "AppArmor refuses the lane's profile", _LOAD_PROFILE),
    Symptom(
        ("unshare", "No space left on device"),
        "the sysctl user.max_user_namespaces, or another of user.max_*_namespaces, is too low",
        "sudo sysctl -w user.max_user_namespaces=15000 user.max_mnt_namespaces=15000 "
        "user.max_pid_namespaces=15000",
    ),
    Symptom(
        ("unshare", "Operation not permitted"),
        "the sysctl kernel.unprivileged_userns_clone, or the engine's system call filter, "
        "forbids user namespaces",
        _ALLOW_USERS,
    ),
    Symptom(("unshare", "Invalid argument"), "this kernel has no user namespaces", _NEWER_KERNEL),
    Symptom(("unshare", "Function not implemented"), "this kernel is too old", _NEWER_KERNEL),
    Symptom(("mount", "Permission denied"), "AppArmor forbids mounts", _LOAD_PROFILE),
    Symptom(
        ("mount proc", "Operation not permitted"),
        "the engine masks parts of /proc although it was asked not to",
        "use Docker Engine 20.10 or later, or Podman 4 or later",
    ),
    Symptom(
        ("mount", "Operation not permitted"),
        "the engine or a security module forbids mounts in user namespaces",
        "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or load the profile: "
        + _LOAD_PROFILE,
    ),
    Symptom(("pivot_root",), "a security module forbids pivot_root", _LOAD_PROFILE),
    Symptom(("prctl", "Invalid argument"), "this kernel has no system call filters", _NEWER_KERNEL),
    Symptom(
        ("the ids of the lane could not be set",),
        "the engine maps too few user ids into containers",
        "give its user namespace 65536 ids in /etc/subuid and /etc/subgid",
    ),
)


def explain(complaint: str) -> RequirementError | None:
    """What is missing, by what a lane complained of as it did not come up; None for all else."""
    for symptom in SYMPTOMS:
        if all(word in complaint for word in symptom.words):
            return RequirementError(symptom.cause, symptom.remedy)
    return None


def check_host(host: EngineHost, runtime: str) -> None:
    """Refuse an engine that is known not to be able to.

    Args:
        host: what the engine says of its machine.
        runtime: of the sandboxes, by name.

    Raises:
        NestedUnavailable: it is not.
    """
    if "runsc" in runtime:
        raise nested_unavailable(
            RequirementError(
                "gVisor has no namespaces inside a container that the host would keep",
                "unset CRUCIBLE_DOCKER_RUNTIME, or stay with isolation container, which gVisor "
                "makes stronger than nested",
            )
        )
    if host.machine not in MACHINES:
        raise nested_unavailable(
            RequirementError(
                f"machines of type {host.machine!r} are not supported",
                f"use one of type {' or '.join(MACHINES)}",
            )
        )


@contextmanager
def telling_what_is_missing() -> Iterator[None]:
    """Turn a lane that did not come up into what is missing, where the complaint is known.

    Raises:
        NestedUnavailable: a requirement is missing.
    """
    try:
        yield
    except (ExecutorUnavailable, ExecutorRefused) as error:
        missing = explain(str(error))
        if missing is None:
            raise
        raise nested_unavailable(missing) from error
