"""Stored switches: what a change makes of them, and what the environment still decides."""

from __future__ import annotations

import msgspec
import pytest

from crucible.errors import SettingsError
from crucible.migration.routing import Mode
from crucible.migration.state import Change, State, effective, initial_state
from crucible.settings import Settings

URL = "http://127.0.0.1:8002"


def test_a_change_leaves_alone_what_it_does_not_name() -> None:
    """Absent switches stay, the revision counts on, and who, when and why are kept."""
    before = State(celery_percentage=0.25, dual_write=False, revision=4)
    after = Change(celery_percentage=0.5, by="ann", reason="more").applied_to(before)
    assert (after.celery_percentage, after.celery_enabled, after.revision) == (0.5, True, 5)
    assert (after.by, after.reason) == ("ann", "more")
    assert after.changed_at.startswith("20")


def test_a_rollback_is_legacy_only_from_every_mode() -> None:
    """One change, whatever was in force."""
    rollback = Change(force_legacy_queue=True)
    for state in (
        State(),
        State(celery_percentage=0.5),
        State(dual_write=True),
        State(celery_enabled=False),
    ):
        assert rollback.applied_to(state).switches(URL).mode is Mode.LEGACY_ONLY


def test_force_in_the_environment_beats_what_is_stored() -> None:
    """Stored at 100 %, forced here: everything goes to legacy."""
    settings = Settings(force_legacy_queue=True, queue_service_url=URL)
    assert effective(State(), settings).mode is Mode.LEGACY_ONLY
    assert effective(State(), Settings(queue_service_url=URL)).mode is Mode.CELERY_PRIMARY


def test_the_environment_decides_while_nothing_is_stored() -> None:
    """The initial state is that of the settings, at revision 0."""
    settings = Settings(celery_percentage=0.1, queue_service_url=URL)
    state = initial_state(settings)
    assert (state.revision, effective(state, settings).mode) == (0, Mode.SPLIT)


@pytest.mark.parametrize(
    ("state", "setting"),
    [
        (State(celery_percentage=1.5), "CELERY_PERCENTAGE"),
        (State(celery_percentage=float("nan")), "CELERY_PERCENTAGE"),
        (State(dual_write=True, celery_percentage=0.5), "CRUCIBLE_DUAL_WRITE"),
    ],
)
def test_unusable_states_name_the_setting(state: State, setting: str) -> None:
    """The same checks as at the start, with the same names."""
    with pytest.raises(SettingsError) as caught:
        state.switches(URL)
    assert caught.value.setting == setting


def test_a_state_of_a_later_version_is_read() -> None:
    """Fields nobody here knows do not take the switches away."""
    stored = msgspec.json.encode({"celery_percentage": 0.5, "revision": 3, "moon": "full"})
    assert msgspec.json.decode(stored, type=State).celery_percentage == 0.5
