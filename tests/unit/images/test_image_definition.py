"""What an image holds, and its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from crucible.errors import SettingsError
from crucible.images.definition import ImageDefinition, load_definition, parse_requirements

if TYPE_CHECKING:
    from pathlib import Path


def test_equal_definitions_have_one_name() -> None:
    """The tag depends on content alone, so a build of the same thing is found again."""
    assert ImageDefinition().reference == ImageDefinition().reference
    assert ImageDefinition().reference.startswith("crucible-sandbox:")


@pytest.mark.parametrize(
    "other",
    [
        ImageDefinition(packages=("python3",)),
        ImageDefinition(python_packages=("numpy==2.0.0",)),
        ImageDefinition(left_out=()),
        ImageDefinition(suite="trixie"),
        ImageDefinition(recipe=0),
    ],
)
def test_every_part_changes_the_name(other: ImageDefinition) -> None:
    """No part of a definition can change without a new image."""
    assert other.reference != ImageDefinition().reference


def test_requirements_are_sorted_and_unique() -> None:
    """Comments, blanks, order and repetition in an operator's list make no difference."""
    text = "\n# tools\nruby  # for tests\npip: six==1.16.0\n\njq\nruby\npip:attrs==23.1.0\n"
    assert parse_requirements(text) == (("jq", "ruby"), ("attrs==23.1.0", "six==1.16.0"))


@pytest.mark.parametrize(
    "line",
    [
        "pip:numpy",
        "pip:numpy>=2",
        "pip:numpy==2 --index-url=x",
        "pip:--upgrade==1",
        "pip:./local==1",
        "Ruby",
        "--variant=full",
        "ruby,perl",
        "ruby perl",
        "../x",
        "x;reboot",
        "a",
    ],
)
def test_a_line_that_is_no_package_is_named(line: str) -> None:
    """Nothing but package names reaches the installers' command lines."""
    with pytest.raises(SettingsError, match="line 2") as caught:
        parse_requirements(f"jq\n{line}\n")
    assert caught.value.setting == "CRUCIBLE_SANDBOX_PACKAGES_FILE"


def test_a_list_adds_to_the_default(tmp_path: Path) -> None:
    """An operator's packages come on top, and those named are not left out again."""
    listed = tmp_path / "packages.txt"
    listed.write_text("jq\nperl-base\npip:six==1.16.0\n")
    definition = load_definition(str(listed))
    assert {"jq", "perl-base", *ImageDefinition().packages} == set(definition.packages)
    assert "perl-base" not in definition.left_out
    assert "apt" in definition.left_out
    assert definition.python_packages == ("six==1.16.0",)
    assert load_definition() == ImageDefinition()


def test_a_missing_list_is_a_settings_error(tmp_path: Path) -> None:
    """A list that cannot be read is refused with its name."""
    with pytest.raises(SettingsError, match="nowhere"):
        load_definition(str(tmp_path / "nowhere"))
