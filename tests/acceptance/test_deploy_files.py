"""What ``deploy/`` and the compose files hold, judged by the tools of those who read them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".cache" / "clients" / "deploy_tools" / "bin"
COMPOSE = ROOT / ".cache" / "compose" / "docker-compose"
OVERLAYS = ("single", "keda")
VALIDATE = """
import * as kinds from "@kubernetes-models/keda/keda.sh/v1alpha1";
import fs from "fs";
for (const one of JSON.parse(fs.readFileSync(0))) new kinds[one.kind](one).validate();
"""


def run(*command: str | Path, given: str | None = None, cwd: Path = ROOT) -> str:
    """What a command prints; it has to succeed."""
    done = subprocess.run(
        command, cwd=cwd, input=given, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def built(overlay: str) -> str:
    """The objects of an overlay."""
    return run(TOOLS / "kubectl", "kustomize", f"deploy/kubernetes/overlays/{overlay}")


def parsed(overlay: str) -> list[dict[str, Any]]:
    """The same, read."""
    return [one for one in yaml.safe_load_all(built(overlay)) if one]


@pytest.fixture(scope="module")
def composed() -> dict[str, Any]:
    """compose.yaml with every profile, as Compose understands it."""
    text = run(COMPOSE, "--profile", "*", "-f", "compose.yaml", "config", "--format", "json")
    found: dict[str, Any] = json.loads(text)
    return found


def test_the_dockerfile_has_no_fault_that_hadolint_knows() -> None:
    """Not even one of the mildest kind."""
    assert run(TOOLS / "hadolint", "Dockerfile") == ""


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_is_what_its_schema_says(overlay: str, tmp_path: Path) -> None:
    """Unknown fields included: --strict."""
    own = [one for one in parsed(overlay) if not one["apiVersion"].startswith("keda.sh/")]
    file = tmp_path / "objects.yaml"
    file.write_text(yaml.safe_dump_all(own))
    said = run(TOOLS / "kubernetes-validate", "--strict", file)
    assert "WARN" not in said
    assert said.count("passed for resource") == len(own) > 10


def test_objects_of_keda_are_what_its_schema_says() -> None:
    """And a wrong one is found, so that this test can fail."""
    objects = [one for one in parsed("keda") if one["apiVersion"].startswith("keda.sh/")]
    assert {one["kind"] for one in objects} == {"ScaledObject", "TriggerAuthentication"}
    node = ("node", "--input-type=module", "--eval", VALIDATE)
    run(*node, given=json.dumps(objects), cwd=ROOT / ".cache" / "keda")
    for one in objects:
        one["spec"] = {"triggers": "none", "secretTargetRef": "none"}
    with pytest.raises(AssertionError, match="must be array"):
        run(*node, given=json.dumps(objects), cwd=ROOT / ".cache" / "keda")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_have_no_rights(overlay: str) -> None:
    """Nobody is root, nothing is written outside volumes, no capability is kept."""
    for one in parsed(overlay):
        if one["kind"] not in ("Deployment", "StatefulSet"):
            continue
        pod = one["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            rights = container["securityContext"]
            assert rights["capabilities"] == {"drop": ["ALL"]}
            assert rights["readOnlyRootFilesystem"] is True
            assert rights["allowPrivilegeEscalation"] is False


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_only_the_executor_has_the_engines_socket(overlay: str) -> None:
    """On Kubernetes."""
    holders = {
        one["metadata"]["name"]
        for one in parsed(overlay)
        if one["kind"] in ("Deployment", "StatefulSet")
        and any(
            "docker.sock" in volume.get("hostPath", {}).get("path", "")
            for volume in one["spec"]["template"]["spec"].get("volumes", [])
        )
    }
    assert holders == {"executor"}


def test_compose_gives_only_the_executor_the_engines_socket(composed: dict[str, Any]) -> None:
    """And it is on no network with the servers."""
    services = composed["services"]
    holders = {
        name
        for name, one in services.items()
        if any("docker.sock" in mount.get("source", "") for mount in one.get("volumes", []))
    }
    assert holders == {"executor"}
    assert not set(services["executor"]["networks"]) & set(services["queue"]["networks"])


def test_compose_never_lets_a_server_delete_messages(composed: dict[str, Any]) -> None:
    """Full is an error, and what was accepted is in a file."""
    for name in ("queue", "bus"):
        command = composed["services"][name]["command"]
        assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
        assert command[command.index("--appendonly") + 1] == "yes"


def test_compose_bounds_and_checks_every_process_of_ours(composed: dict[str, Any]) -> None:
    """Memory, log files, rights; no secret in the environment."""
    for name, one in composed["services"].items():
        assert int(one["mem_limit"]) > 0, name
        assert one.get("logging", {}).get("options", {}).get("max-size"), name
        if one["image"].startswith("crucible-"):
            assert one["read_only"] is True, name
            assert one["cap_drop"] == ["ALL"], name
        text = json.dumps(one.get("environment", {}))
        assert 'TOKEN"' not in text, name
        assert 'PASSWORD"' not in text, name


def test_compose_for_machines_without_a_registry_names_only_images_of_ours() -> None:
    """What it starts by default can all be built here."""
    files = ("-f", "compose.yaml", "-f", "compose.offline.yaml")
    images = run(COMPOSE, *files, "config", "--images").split()
    assert images
    assert all(image.startswith("crucible-") for image in images), images
