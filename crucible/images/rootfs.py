"""Installs Debian packages into a temporary tree, which is removed afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from crucible.errors import RequirementError
from crucible.images.cleaning import clean

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from crucible.images.definition import ImageDefinition

    Progress = Callable[[str], None]

#: Seconds an installer may take in total, and without any output.
TOTAL_S = 1800.0
SILENCE_S = 300.0
#: Seconds a program may take to print its version.
VERSION_S = 60.0
_VERSION = re.compile(r"\d+(?:\.\d+)+")
#: Seconds between two lines of progress inside one stage.
STAGE_LINE_S = 5.0
#: Name prefix of temporary trees, by which leftovers of killed builds are found.
PREFIX = "crucible-rootfs-"
_TAIL = 15
_STAGES = {
    "Retrieving": "downloading packages",
    "Validating": "downloading packages",
    "Extracting": "unpacking the base",
    "Unpacking": "unpacking packages",
    "Configuring": "configuring packages",
}
_PLATFORMS = tuple(f"manylinux_2_{minor}" for minor in (36, 35, 34, 31, 28, 24, 17))


def require_builder() -> str:
    """Path of debootstrap.

    Raises:
        RequirementError: this process cannot build a root file system.
    """
    found = shutil.which("debootstrap", path=_PATH)
    if not found:
        raise RequirementError(
            "building the sandbox image needs debootstrap", "apt-get install debootstrap"
        )
    if os.geteuid() != 0:
        raise RequirementError(
            "building the sandbox image needs root, since debootstrap uses chroot",
            "sudo crucible images build",
        )
    return found


#: PATH with the directories of administration tools, which a user's PATH may lack.
_PATH = ":".join(
    dict.fromkeys([*os.environ.get("PATH", "").split(":"), "/usr/sbin", "/usr/bin", "/sbin"])
)


def stage_of(line: str) -> str:
    """The stage that a line of debootstrap's output belongs to; empty if none."""
    words = line.split()
    return _STAGES.get(words[1], "") if len(words) > 1 and words[0] == "I:" else ""


def debootstrap_command(
    program: str, definition: ImageDefinition, root: Path, mirror: str, kept: Path | None = None
) -> list[str]:
    """The command line that installs ``definition`` into ``root``.

    Args:
        program: path of debootstrap.
        definition: what to install.
        root: where.
        mirror: address of a Debian archive; empty for the usual one.
        kept: an absolute path where packages are kept for the next build.
    """
    command = [
        program,
        "--variant=minbase",
        # Without it a missing keyring would mean unverified packages.
        "--force-check-gpg",
        *([f"--cache-dir={kept}"] if kept else []),
        f"--include={','.join(definition.packages)}",
        definition.suite,
        str(root),
    ]
    if mirror:
        command.append(mirror)
    return command


async def private_mounts() -> tuple[str, ...]:
    """A command prefix that runs a command in its own mount namespace.

    Its mounts disappear with it, so that removing the tree never reaches into a file system of the
    host that debootstrap mounted. Empty where that is not permitted (a chroot, a container).
    """
    wrapper = ("unshare", "--mount", "--propagation", "private")
    if not shutil.which(wrapper[0], path=_PATH):
        return ()
    try:
        await _run([*wrapper, "true"], {"PATH": _PATH}, None)
    except RequirementError:
        return ()
    return wrapper


class InstalledTree(NamedTuple):
    """A tree that is ready to be packed.

    Attributes:
        root: where it is.
        versions: what its programs answered when they were asked for theirs.
    """

    root: Path
    versions: dict[str, str]


@contextlib.asynccontextmanager
async def installed_tree(
    definition: ImageDefinition,
    workspace: Path,
    *,
    mirror: str,
    progress: Progress,
    kept: Path | None = None,
    asking: Mapping[str, Sequence[str]] | None = None,
) -> AsyncIterator[InstalledTree]:
    """A cleaned tree with ``definition`` installed, removed on leaving.

    Args:
        definition: what to install.
        workspace: where the tree is made.
        mirror: address of a Debian archive; empty for the usual one.
        progress: called with one line for people at each step.
        kept: where packages are kept for the next build; None keeps none.
        asking: commands that print a version, by what it is of.

    Raises:
        RequirementError: it cannot be built here; has the last lines of the installer's output.
    """
    program = require_builder()
    root = Path(tempfile.mkdtemp(prefix=PREFIX, dir=workspace))
    try:
        progress(f"installing {', '.join(definition.packages)} (Debian {definition.suite})")
        command = [
            *await private_mounts(),
            *debootstrap_command(program, definition, root, mirror, kept),
        ]
        await _run(command, _debian_env(), progress)
        if definition.python_packages:
            progress(f"installing {', '.join(definition.python_packages)}")
            await _run(pip_command(definition, root), dict(os.environ), None)
        progress("compiling Python modules, removing unneeded files")
        for command in compile_commands(root):
            await _run(command, {"PATH": _PATH, "PYTHONHASHSEED": "0"}, None)
        versions = {name: await _version(root, command) for name, command in (asking or {}).items()}
        await asyncio.to_thread(clean, root, definition)
        yield InstalledTree(root, versions)
    finally:
        # A cancelled build waits for the removal too, so that no tree outlives the task.
        await asyncio.shield(asyncio.to_thread(shutil.rmtree, root, ignore_errors=True))


async def _version(root: Path, command: Sequence[str]) -> str:
    """The first version in what a command inside the tree prints."""
    process = await asyncio.create_subprocess_exec(
        *("chroot", str(root), *command),
        env={"PATH": _PATH, "HOME": "/tmp"},  # noqa: S108 - in the tree
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd="/",
    )
    try:
        async with asyncio.timeout(VERSION_S):
            printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await asyncio.shield(process.wait())
    return version_in(printed.decode("utf-8", "replace"))


def version_in(text: str) -> str:
    """The first thing in a text that looks like a version; empty where nothing does."""
    found = _VERSION.search(text)
    return found[0] if found else ""


def python_library(root: Path) -> Path:
    """The directory of the installed Python's standard library, such as ``usr/lib/python3.11``.

    Raises:
        RequirementError: the tree has no Python.
    """
    for path in sorted(root.glob("usr/lib/python3.*/os.py")):
        return path.parent
    raise RequirementError("the image has no Python; its package list must include python3")


def pip_command(definition: ImageDefinition, root: Path) -> list[str]:
    """The command line that installs the pinned Python distributions into ``root``.

    The platform is given explicitly, so that a builder with another Python picks the same wheels.
    """
    version = python_library(root).name.removeprefix("python")
    target = root / f"usr/local/lib/python{version}/dist-packages"
    machine = os.uname().machine
    return [
        *(sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--no-compile"),
        *("--root-user-action=ignore", "--disable-pip-version-check", "--only-binary=:all:"),
        *("--implementation", "cp", "--python-version", version),
        *(word for name in _PLATFORMS for word in ("--platform", f"{name}_{machine}")),
        *("--target", str(target)),
        *definition.python_packages,
    ]


def compile_commands(root: Path) -> list[list[str]]:
    """The command lines that compile the tree's Python modules with its own Python.

    With unchecked hashes: all files of the image have the same time, and a read-only root cannot
    keep a recompiled module, so a timestamp check would only cost time at every start.
    """
    name = python_library(root).name
    compiler = ["chroot", str(root), f"/usr/bin/{name}", "-m", "compileall", "-q", "-f"]
    compiler += ["--invalidation-mode", "unchecked-hash"]
    extras = ("usr/lib/python3/dist-packages", f"usr/local/lib/{name}/dist-packages")
    # Packages may contain templates that are not valid Python: those are left uncompiled.
    tolerant = ["sh", "-c", '"$@" || [ $? -eq 1 ]', "sh", *compiler]
    return [
        [*compiler, f"/usr/lib/{name}"],
        *([*tolerant, f"/{extra}"] for extra in extras if (root / extra).is_dir()),
    ]


def _debian_env() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    return kept | {
        "PATH": _PATH,
        "LC_ALL": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
        "PYTHONHASHSEED": "0",
    }


async def _run(command: Sequence[str], env: Mapping[str, str], progress: Progress | None) -> None:
    """Run a command and report its stages; on failure or cancellation its process group is killed.

    Raises:
        RequirementError: it failed, took too long, or printed nothing for ``SILENCE_S``.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        env=dict(env),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
        cwd="/",
    )
    tail: list[str] = []
    try:
        async with asyncio.timeout(TOTAL_S):
            await _follow(process, tail, progress)
            await process.wait()
    except TimeoutError as error:
        raise RequirementError(f"{_name(command)} timed out: {' / '.join(tail)}") from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await asyncio.shield(process.wait())
    if process.returncode:
        raise RequirementError(
            f"{_name(command)} exited with code {process.returncode}: {' / '.join(tail)}",
            "check that packages can be fetched, or set CRUCIBLE_DEBIAN_MIRROR",
        )


def _name(command: Sequence[str]) -> str:
    """The program's name without the wrapper before it."""
    known = (Path(word).name for word in command)
    return next((n for n in known if n in {"debootstrap", "pip", "compileall"}), command[0])


async def _follow(
    process: asyncio.subprocess.Process, tail: list[str], progress: Progress | None
) -> None:
    stream = process.stdout
    if stream is None:
        return
    loop = asyncio.get_running_loop()
    stage, reported_at = "", 0.0
    while True:
        async with asyncio.timeout(SILENCE_S):
            raw = await stream.readline()
        if not raw:
            return
        line = raw.decode("utf-8", "replace").rstrip()
        tail.append(line)
        del tail[:-_TAIL]
        now = stage_of(line)
        if progress and now and (now != stage or loop.time() - reported_at >= STAGE_LINE_S):
            progress(now if now != stage else f"{now}: {line.split()[2].rstrip('.')}")
            stage, reported_at = now, loop.time()
