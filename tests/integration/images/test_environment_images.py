"""The images of environments, as the engine has them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from crucible.environments import DATA, DEFAULT, JUDGE, EnvironmentTable
from crucible.errors import RequirementError
from crucible.images import (
    ensure_environment,
    environment_images,
    load_definition,
    open_engine,
)
from crucible.images.layers import export_layers
from crucible.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import aiodocker

    from crucible.settings import Settings

pytestmark = pytest.mark.docker


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """This machine's settings, with a data directory of the test's own."""
    return load_settings(os.environ, flags={"data_dir": tmp_path})


@pytest.fixture
async def docker(settings: Settings) -> AsyncIterator[aiodocker.Docker]:
    """The engine of the settings."""
    async with open_engine(settings.docker_url) as client:
        yield client


async def test_all_that_is_built_in_is_built(settings: Settings) -> None:
    """The machine of the tests has every environment; without a setting only one is served."""
    states = {one.name: one for one in await environment_images(settings)}
    assert {name for name, one in states.items() if one.built} == {"default", "judge", "data"}
    assert [name for name, one in states.items() if one.served] == ["default"]


async def test_what_is_there_is_not_built_again(settings: Settings, tmp_path: Path) -> None:
    """A second build finds the image, builds nothing, and says nothing."""
    said: list[str] = []
    info = await ensure_environment(settings, JUDGE, progress=said.append)
    assert (said, info.reference, list(tmp_path.iterdir())) == ([], JUDGE.reference, [])


@pytest.mark.parametrize("environment", [JUDGE, DATA], ids=lambda one: one.name)
async def test_an_environment_is_a_layer_on_the_default(
    docker: aiodocker.Docker, environment: Any
) -> None:
    """What the default has takes no disk a second time."""
    base = await docker.images.inspect(load_definition().reference)
    top = await docker.images.inspect(environment.reference)
    assert top["RootFS"]["Layers"][:-1] == base["RootFS"]["Layers"]


async def test_layers_are_read_as_they_were_loaded(
    docker: aiodocker.Docker, tmp_path: Path
) -> None:
    """An image handed out by the engine is the one it was given, file by file."""
    reference = load_definition().reference
    layers = await export_layers(docker, reference, tmp_path)
    inspected = await docker.images.inspect(reference)
    assert [f"sha256:{one}" for one in layers.digests] == inspected["RootFS"]["Layers"]
    assert layers.entries["usr/bin"].kind == "d"
    assert layers.entries["usr/bin/python3"].kind == "l"
    assert layers.entries["usr/bin/bash"].kind == "f"


async def test_somebody_elses_image_becomes_an_environment(docker: aiodocker.Docker) -> None:
    """It is looked into, labelled and tagged; its files stay as they are."""
    image_id = (await docker.images.inspect(DEFAULT.reference))["Id"]
    # An image without a registry has no digest of a repository, only its id: both name content.
    table = EnvironmentTable(image=f"crucible-sandbox@{image_id}", languages=["python", "bash"])
    settings = load_settings(
        os.environ
        | {"CRUCIBLE_OWN_ENVIRONMENTS": msgspec.json.encode({"test-own": table}).decode()}
    )
    (own,) = (one for one in settings.served_environments if one.name == "test-own")
    own = msgspec.structs.replace(own, image=image_id)
    try:
        info = await ensure_environment(settings, own)
        assert set(info.versions) == {"python", "bash"}
        top = await docker.images.inspect(info.image_id)
        base = await docker.images.inspect(image_id)
        assert top["RootFS"] == base["RootFS"]
    finally:
        await docker.images.delete(own.reference, force=True)


async def test_an_image_without_the_language_is_refused(docker: aiodocker.Docker) -> None:
    """An environment that promises what its image has not is not made."""
    image_id = (await docker.images.inspect(DEFAULT.reference))["Id"]
    own = msgspec.structs.replace(
        JUDGE, name="test-none", base="", image=image_id, languages=("rust",)
    )
    with pytest.raises(RequirementError, match="rust"):
        await ensure_environment(load_settings(os.environ), own)
