"""``crucible environments``: the images that programs run in, by the names requests use."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from crucible.cli.flags import with_settings
from crucible.cli.options import Json
from crucible.cli.printing import print_json
from crucible.environments import known_environments
from crucible.errors import InputError, RequirementError
from crucible.executor.languages import languages_of
from crucible.settings import Settings
from crucible.settings.sections import Section

if TYPE_CHECKING:
    from crucible.environments import Environment
    from crucible.images import EnvironmentImage, ImageInfo

app = typer.Typer(help="Images with languages and packages.", no_args_is_help=True)

Names = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME]...", help="None: all that are served.")
]
Force = Annotated[bool, typer.Option("--force", help="Build even what is there.")]
Check = Annotated[bool, typer.Option("--check", help="Only say whether all are there.")]


class EnvironmentShown(msgspec.Struct, frozen=True, kw_only=True):
    """One environment as ``list --json`` has it.

    Attributes:
        name: ``environment`` of a request.
        served: programs may ask for it, by the settings in force.
        state: ``built``, ``outdated`` (made from another definition than today's) or ``missing``.
        size_bytes: of its image, what it shares with others included.
        languages: names, and versions as far as they are known.
        packages: Debian packages asked for.
        wheels: Python distributions asked for.
        image: the external image it is made of; empty where it is built from packages.
    """

    name: str
    served: bool
    state: str
    size_bytes: int
    languages: dict[str, str]
    packages: tuple[str, ...]
    wheels: tuple[str, ...]
    image: str


@app.command("build")
@with_settings(Section.IMAGE, "docker_url", "sandbox_image", "data_dir")
def build(
    settings: Settings,
    names: Names = None,
    force: Force = False,
    check: Check = False,
    as_json: Json = False,
) -> None:
    """Bring images into the engine: nothing to do, pulled, or built from Debian packages."""
    chosen = _chosen(settings, names or [])
    if check:
        _check(asyncio.run(_states(settings)), {one.name for one in chosen})
        return
    built = asyncio.run(_build(settings, chosen, force))
    if as_json:
        print_json(msgspec.to_builtins(built))
        return
    for name, info in built.items():
        typer.echo(f"{name}  {info.image_id}  {info.size_bytes / 1e6:.0f} MB")
    served = {one.name for one in settings.served_environments}
    if unserved := [name for name in built if name not in served]:
        names_to_serve = ",".join([*served, *unserved])
        typer.echo(f"==> to serve it: CRUCIBLE_ENVIRONMENTS={names_to_serve}", err=True)


@app.command("list")
@with_settings(Section.IMAGE, "docker_url", "sandbox_image")
def list_(settings: Settings, as_json: Json = False) -> None:
    """List the environments, whether each is built, and what it contains."""
    known = known_environments(settings.own_environments)
    shown = [_shown(known[one.name], one) for one in asyncio.run(_states(settings))]
    if as_json:
        print_json(msgspec.to_builtins(shown))
        return
    table = Table("environment", "served", "state", "size", "languages", box=None)
    for one in shown:
        languages = ", ".join(
            f"{name} {version}".rstrip() for name, version in one.languages.items()
        )
        size = f"{one.size_bytes / 1e6:.0f} MB" if one.size_bytes else ""
        table.add_row(one.name, "yes" if one.served else "no", one.state, size, languages)
    Console().print(table)
    if missing := [one.name for one in shown if one.served and one.state != "built"]:
        typer.echo(f"==> crucible environments build {' '.join(missing)}", err=True)


def _chosen(settings: Settings, names: list[str]) -> list[Environment]:
    if not names:
        return list(settings.served_environments)
    known = known_environments(settings.own_environments)
    if unknown := [name for name in names if name not in known]:
        raise InputError("NAME", f"{unknown[0]!r} is unknown; known are {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names)]


def _check(states: list[EnvironmentImage], wanted: set[str]) -> None:
    missing = [one.name for one in states if one.name in wanted and not one.built]
    if missing:
        raise RequirementError(
            f"not in the engine, or from another definition: {', '.join(missing)}",
            f"crucible environments build {' '.join(missing)}",
        )


def _shown(environment: Environment, state: EnvironmentImage) -> EnvironmentShown:
    versions = state.image.versions if state.image else {}
    return EnvironmentShown(
        name=environment.name,
        served=state.served,
        state="built" if state.built else "outdated" if state.outdated else "missing",
        size_bytes=state.image.size_bytes if state.image else 0,
        languages={name: versions.get(name, "") for name in languages_of(environment)},
        packages=environment.packages,
        wheels=environment.wheels,
        image=environment.image,
    )


def _tell(line: str) -> None:
    typer.echo(f"==> {line}", err=True)


async def _states(settings: Settings) -> list[EnvironmentImage]:
    from crucible.images import environment_images

    return await environment_images(settings)


async def _build(
    settings: Settings, environments: list[Environment], force: bool
) -> dict[str, ImageInfo]:
    from crucible.images import ensure_environments

    return await ensure_environments(settings, environments, progress=_tell, rebuild=force)
