"""Environments as data: built in, of one's own, served."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from crucible.environments import (
    BUILT_IN,
    DATA,
    DEFAULT,
    JUDGE,
    EnvironmentTable,
    known_environments,
    served_environments,
    state_of,
)
from crucible.errors import SettingsError
from crucible.executor.languages import languages_of

DIGEST = "sha256:" + "0" * 64


def tables(**own: dict[str, Any]) -> dict[str, EnvironmentTable]:
    return msgspec.convert(
        {name.replace("_", "-"): table for name, table in own.items()}, dict[str, EnvironmentTable]
    )


def test_what_is_built_in() -> None:
    """The contract's languages and packages are where it says."""
    assert list(languages_of(DEFAULT)) == ["python", "javascript", "bash", "sh", "c"]
    judge = {"cpp", "cpp20", "go", "rust", "java", "ruby", "lua", "perl", "php", "typescript"}
    assert set(languages_of(JUDGE)) == set(languages_of(DEFAULT)) | judge
    assert {"python3-numpy", "python3-pandas", "python3-scipy"} < set(DATA.packages)
    assert [one.reference for one in BUILT_IN.values()] == [
        "crucible-sandbox:latest",
        "crucible-sandbox:judge",
        "crucible-sandbox:data",
    ]


def test_the_better_compiler_is_taken() -> None:
    """C is compiled by gcc where there is gcc."""
    commands = [languages_of(one)["c"].compile or ("",) for one in (DEFAULT, JUDGE)]
    assert [command[0] for command in commands] == ["/usr/bin/tcc", "/usr/bin/gcc"]


def test_an_own_environment_has_what_its_base_has() -> None:
    """Packages, preloaded modules and least memory are the base's and its own."""
    own = tables(
        geo={"base": "data", "packages": ["ruby", "unicode-data"], "wheels": ["h3==3.7.7"]},
        more={"base": "geo", "preload": ["pandas"], "least_memory_mb": 128},
    )
    more = known_environments(own)["more"]
    assert {*DATA.packages, "ruby"} < set(more.packages)
    assert (more.wheels, more.preload, more.least_memory_mb) == (
        ("h3==3.7.7",),
        ("numpy", "pandas"),
        128,
    )
    assert "unicode-data" not in more.left_out
    assert "ruby" in languages_of(more)


def test_somebody_elses_image_has_the_languages_it_says() -> None:
    """Python, which the supervisor needs, when it says nothing."""
    own = tables(one={"image": f"x@{DIGEST}"}, two={"image": f"x@{DIGEST}", "languages": ["go"]})
    known = known_environments(own)
    assert [list(languages_of(known[name])) for name in ("one", "two")] == [["python"], ["go"]]


def test_served_are_the_default_and_ones_own_unless_said() -> None:
    """The setting names them in order."""
    own = tables(mine={"packages": ["jq"]})
    assert [one.name for one in served_environments((), own)] == ["default", "mine"]
    assert [one.name for one in served_environments(("judge", "mine"), own)] == ["judge", "mine"]


@pytest.mark.parametrize(
    ("names", "own", "setting"),
    [
        (("nowhere",), {}, "CRUCIBLE_ENVIRONMENTS"),
        (("judge", "judge"), {}, "CRUCIBLE_ENVIRONMENTS"),
        ((), {"judge": {}}, "environments.judge"),
        ((), {"latest": {}}, "environments.latest"),
        ((), {"0123456789abcdef": {}}, "environments.0123456789abcdef"),
        ((), {"Big": {}}, "environments.Big"),
        ((), {"a": {"base": "nowhere"}}, "environments.a.base"),
        ((), {"a": {"base": "b"}, "b": {"base": "a"}}, "environments.a.base"),
        ((), {"a": {"image": f"x@{DIGEST}"}, "b": {"base": "a"}}, "environments.b.base"),
        ((), {"a": {"packages": ["--help"]}}, "environments.a.packages"),
        ((), {"a": {"packages": ["jq,rm"]}}, "environments.a.packages"),
        ((), {"a": {"wheels": ["numpy"]}}, "environments.a.wheels"),
        ((), {"a": {"wheels": ["--index-url=x==1"]}}, "environments.a.wheels"),
        ((), {"a": {"preload": ["os;x"]}}, "environments.a.preload"),
        ((), {"a": {"image": "x:latest"}}, "environments.a.image"),
        ((), {"a": {"image": f"x@{DIGEST}", "packages": ["jq"]}}, "environments.a.image"),
        ((), {"a": {"languages": ["go"]}}, "environments.a.languages"),
    ],
)
def test_what_cannot_be_used_is_named(
    names: tuple[str, ...], own: dict[str, Any], setting: str
) -> None:
    """A table that cannot be built, or a name that leads nowhere, is refused at the start."""
    with pytest.raises(SettingsError) as caught:
        served_environments(names, msgspec.convert(own, dict[str, EnvironmentTable]))
    assert caught.value.setting == setting


@pytest.mark.parametrize("label", ["", "{", "[]", '{"python": 3}'])
def test_an_image_without_versions_has_none(label: str) -> None:
    """Labels are anybody's: what is no list of versions is none."""
    labels = {"crucible.image.versions": label}
    assert state_of("x", {"Id": "sha256:1", "Config": {"Labels": labels}}).versions == {}
    assert state_of("x", {"Id": "sha256:1", "Config": None}).image_id == "sha256:1"
