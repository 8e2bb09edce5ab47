"""``crucible images``: the sandbox image in this machine's engine."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from crucible.cli.flags import with_settings
from crucible.cli.options import Json
from crucible.errors import RequirementError
from crucible.settings import Settings
from crucible.settings.sections import Section

if TYPE_CHECKING:
    from crucible.images import ImageInfo

app = typer.Typer(help="The image that programs run in.", no_args_is_help=True)

Force = Annotated[bool, typer.Option("--force", help="Build even if the image exists.")]
CheckOnly = Annotated[bool, typer.Option("--check", help="Only check that the image exists.")]


@app.command("build")
@with_settings(Section.IMAGE, "docker_url", "sandbox_image", "data_dir")
def build(
    settings: Settings, force: Force = False, check: CheckOnly = False, as_json: Json = False
) -> None:
    """Make sure the engine has the image: pull it, or build it from Debian packages."""
    info = asyncio.run(_present(settings) if check else _ensure(settings, force))
    if as_json:
        typer.echo(_json(info))
    else:
        typer.echo(f"{info.reference}  {info.image_id}  {info.size_bytes / 1e6:.0f} MB")


@app.command("list")
@with_settings("docker_url")
def list_(settings: Settings, as_json: Json = False) -> None:
    """List the images Crucible built."""
    infos = asyncio.run(_list(settings))
    if as_json:
        typer.echo(_json(infos))
        return
    for info in infos:
        for tag in info.tags or ("<none>",):
            size = f"{info.size_bytes / 1e6:.0f} MB"
            typer.echo(f"{tag}  {info.image_id[:19]}  {size}  definition {info.definition}")


def _json(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value)).decode()


def _print_progress(line: str) -> None:
    typer.echo(f"==> {line}", err=True)


async def _ensure(settings: Settings, force: bool) -> ImageInfo:
    from crucible.images import ensure_image

    return await ensure_image(settings, progress=_print_progress, rebuild=force)


async def _present(settings: Settings) -> ImageInfo:
    from crucible.images import present_image

    if info := await present_image(settings):
        return info
    raise RequirementError(
        f"{settings.sandbox_image} is not in the engine, or was built from another definition",
        "crucible images build",
    )


async def _list(settings: Settings) -> list[ImageInfo]:
    from crucible.images import list_images, open_engine

    async with open_engine(settings.docker_url) as docker:
        return await list_images(docker)
