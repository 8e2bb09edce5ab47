"""Which isolation programs get, and which may be asked for."""

from __future__ import annotations

import pytest

from crucible.errors import InputError, SettingsError
from crucible.evaluation.executor_settings import executor_config
from crucible.evaluation.limits import ceilings_of
from crucible.evaluation.request import check_request, decode_request, program_from
from crucible.executor.served import ServedEnvironments
from crucible.models import LOCAL_TENANT, Isolation
from crucible.settings import Settings, load_settings

CEILINGS = ceilings_of(Settings())
SERVED = ServedEnvironments()


@pytest.mark.parametrize(
    ("asked", "default", "given"),
    [
        (None, "container", "container"),
        (None, "nested", "nested"),
        ("container", "nested", "container"),
        ("nested", "container", "nested"),
    ],
)
def test_a_program_gets_what_it_asks_for_or_the_default(
    asked: Isolation | None, default: Isolation, given: Isolation
) -> None:
    """A request that names none gets what the service is set to, and never less than it asked."""
    options = {"isolation": asked} if asked else {}
    program = program_from(
        "e", "x", "python", options, served=SERVED, ceilings=CEILINGS, isolation=default
    )
    assert program.isolation == given
    assert program.tenant == LOCAL_TENANT


def test_whose_a_program_is_cannot_be_said_over_http() -> None:
    """A tenant is known by its key, not by its word."""
    with pytest.raises(InputError, match="tenant"):
        decode_request(b'{"code":"x","tenant":"somebody"}')


ONLY_CONTAINER: tuple[Isolation, ...] = ("container",)


def test_what_is_not_offered_is_refused_by_name() -> None:
    """The refusal names the field and says what may be asked for."""
    asked = decode_request(b'{"code":"x","isolation":"nested"}')
    check_request(asked, SERVED, CEILINGS)
    with pytest.raises(InputError, match="container") as caught:
        check_request(asked, SERVED, CEILINGS, ONLY_CONTAINER)
    assert caught.value.field == "isolation"


def test_the_settings_reach_the_executor() -> None:
    """Default isolation and programs of a lane come from the environment."""
    settings = load_settings({"CRUCIBLE_ISOLATION": "nested", "CRUCIBLE_LANE_PROGRAMS": "7"})
    config = executor_config(settings)
    assert (config.isolation, config.lane_programs) == ("nested", 7)


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"CRUCIBLE_ISOLATION": "shared"}, "CRUCIBLE_ISOLATION"),
        ({"CRUCIBLE_LANE_PROGRAMS": "0"}, "CRUCIBLE_LANE_PROGRAMS"),
        ({"CRUCIBLE_ISOLATIONS": "container,vm"}, "CRUCIBLE_ISOLATIONS"),
        (
            {"CRUCIBLE_ISOLATIONS": "container", "CRUCIBLE_ISOLATION": "nested"},
            "CRUCIBLE_ISOLATION",
        ),
    ],
)
def test_what_cannot_be_set_is_named(environ: dict[str, str], named: str) -> None:
    """An unknown isolation, or a default that may not be asked for, stops the start."""
    with pytest.raises(SettingsError) as caught:
        load_settings(environ)
    assert caught.value.setting == named
