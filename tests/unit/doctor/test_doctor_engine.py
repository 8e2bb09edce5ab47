"""Judging what an engine says about itself."""

from __future__ import annotations

from typing import Any

import pytest

from crucible.doctor import engine
from crucible.doctor.check import Severity
from crucible.doctor.examination import judge_environment, judge_image
from crucible.doctor.machine import judge_python, judge_space
from crucible.images import EnvironmentImage, ImageDefinition, ImageInfo
from crucible.settings import Settings

_INFO: dict[str, Any] = {
    "MemoryLimit": True,
    "SwapLimit": True,
    "PidsLimit": True,
    "CpuCfsQuota": True,
    "CgroupVersion": "2",
    "SecurityOptions": ["name=seccomp,profile=builtin", "name=cgroupns"],
    "Runtimes": {"runc": {}, "io.containerd.runc.v2": {}},
    "DefaultRuntime": "runc",
    "Driver": "overlay2",
    "Plugins": {"Authorization": None},
}


@pytest.mark.parametrize("key", ["MemoryLimit", "PidsLimit", "CpuCfsQuota"])
def test_a_missing_controller_fails(key: str) -> None:
    """Without a controller a limit would be a wish."""
    check = engine.judge_control_groups({**_INFO, key: False})
    assert check.severity is Severity.FAIL
    assert check.remedy


@pytest.mark.parametrize(
    ("version", "swap", "severity"),
    [
        ("1", False, Severity.WARN),
        ("1", True, Severity.OK),
        ("2", False, Severity.OK),
        ("2", True, Severity.OK),
    ],
)
def test_swap_accounting_matters_on_version_1(version: str, swap: bool, severity: Severity) -> None:
    """Only the old control groups need a boot parameter to count swap."""
    info = {**_INFO, "CgroupVersion": version, "SwapLimit": swap}
    assert engine.judge_control_groups(info).severity is severity


@pytest.mark.parametrize(
    ("options", "severity"),
    [
        (["name=seccomp,profile=default"], Severity.OK),
        (["name=apparmor", "name=seccomp,profile=builtin"], Severity.OK),
        (["name=seccomp,profile=unconfined"], Severity.FAIL),
        (["name=apparmor"], Severity.FAIL),
        (None, Severity.FAIL),
    ],
)
def test_system_calls_must_be_filtered(options: list[str] | None, severity: Severity) -> None:
    """No filter, or one that lets everything through, is in the way."""
    assert engine.judge_seccomp({"SecurityOptions": options}).severity is severity


def test_the_wanted_runtime_must_be_registered() -> None:
    """A runtime named in the settings that the engine lacks fails and names those it has."""
    assert engine.judge_runtime(_INFO, "").severity is Severity.OK
    assert engine.judge_runtime(_INFO, "runc").severity is Severity.OK
    check = engine.judge_runtime(_INFO, "runsc")
    assert check.severity is Severity.FAIL
    assert "has runc" in check.detail


@pytest.mark.parametrize(
    ("api", "severity"),
    [
        ("1.41", Severity.OK),
        ("1.52", Severity.OK),
        ("1.9", Severity.FAIL),
        ("1.40", Severity.FAIL),
        ("", Severity.FAIL),
    ],
)
def test_api_versions_compare_as_numbers(api: str, severity: Severity) -> None:
    """1.9 is older than 1.41."""
    checks = {c.name: c for c in engine.judge_version({"ApiVersion": api}, _INFO)}
    assert checks["Docker API"].severity is severity


def test_debian_tells_its_version_in_the_commit() -> None:
    """The distribution's full version is read where Debian puts it, not cut to upstream's."""
    component = {"Name": "runc", "Version": "1.1.5+ds1"}
    component_full = {**component, "Details": {"GitCommit": "1.1.5+ds1-1+deb12u1"}}
    version = {"ApiVersion": "1.41", "Version": "28.0.0", "Components": [component_full]}
    checks = {check.name: check for check in engine.judge_version(version, _INFO)}
    assert "1.1.5+ds1-1+deb12u1" in checks["runc version"].detail
    assert checks["Engine version"].severity is Severity.OK


def test_a_copying_storage_driver_is_a_warning() -> None:
    """vfs works, slowly."""
    assert engine.judge_storage({"Driver": "vfs"}).severity is Severity.WARN
    assert engine.judge_storage(_INFO).severity is Severity.OK


def test_space_and_python_thresholds() -> None:
    """Little room warns, none fails; Python 3.11 is the oldest."""
    assert [judge_space("n", "/", free).severity for free in (10**12, 2 * 10**9, 10**6)] == [
        Severity.OK,
        Severity.WARN,
        Severity.FAIL,
    ]
    assert judge_python((3, 10, 9)).severity is Severity.FAIL
    assert judge_python((3, 11, 0)).severity is Severity.OK


def test_the_image_must_be_there_and_todays() -> None:
    """A missing image fails; one of another definition warns; a foreign one is taken as it is."""
    today = ImageDefinition().digest
    info = ImageInfo(reference="crucible-sandbox:latest", image_id="sha256:0", definition=today)
    old = ImageInfo(reference="crucible-sandbox:latest", image_id="sha256:0", definition="other")
    foreign = Settings(sandbox_image="somewhere/image:1")
    assert judge_image(Settings(), None).severity is Severity.FAIL
    assert judge_image(Settings(), info).severity is Severity.OK
    assert judge_image(Settings(), old).severity is Severity.WARN
    assert judge_image(foreign, old).severity is Severity.OK
    listed = Settings(sandbox_packages_file="/nowhere/at/all")
    assert judge_image(listed, info).severity is Severity.FAIL


def test_a_served_environment_has_to_be_built() -> None:
    """Missing fails where it is served; one of another definition warns."""
    info = ImageInfo(reference="crucible-sandbox:judge", image_id="sha256:0")

    def severity(*, served: bool, built: bool, outdated: bool) -> Severity:
        image = info if built or outdated else None
        return judge_environment(
            EnvironmentImage(
                name="judge", served=served, built=built, outdated=outdated, image=image
            )
        ).severity

    assert severity(served=True, built=True, outdated=False) is Severity.OK
    assert severity(served=True, built=False, outdated=False) is Severity.FAIL
    assert severity(served=True, built=False, outdated=True) is Severity.WARN
    assert severity(served=False, built=False, outdated=False) is Severity.OK
