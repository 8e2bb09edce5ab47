"""``crucible environments`` on this machine."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from crucible.cli.main import app

pytestmark = pytest.mark.docker


def test_list_says_what_is_built_and_in_it() -> None:
    """States, sizes, and versions as found when they were built."""
    done = CliRunner().invoke(
        app, ["environments", "list", "--json", "--environments", "default,judge"]
    )
    assert done.exit_code == 0, done.output
    shown = {one["name"]: one for one in json.loads(done.stdout)}
    assert {name: one["state"] for name, one in shown.items()} == {
        "default": "built",
        "judge": "built",
        "data": "built",
    }
    assert [one["served"] for one in shown.values()] == [True, True, False]
    assert shown["judge"]["languages"]["rust"].startswith("1.")
    assert shown["judge"]["size_bytes"] > shown["default"]["size_bytes"]
    table = CliRunner().invoke(app, ["environments", "list"], env={"COLUMNS": "200"})
    assert "judge" in table.stdout


def test_check_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 1 and the command that helps; 0 when all is there."""
    assert CliRunner().invoke(app, ["environments", "build", "--check", "judge"]).exit_code == 0
    own = {"test-absent": {"packages": ["jq"]}}
    monkeypatch.setenv("CRUCIBLE_OWN_ENVIRONMENTS", json.dumps(own))
    done = CliRunner().invoke(app, ["environments", "build", "--check"])
    assert done.exit_code == 1
    assert "crucible environments build test-absent" in str(done.exception)


def test_an_unknown_name_is_refused() -> None:
    """With those that are known."""
    done = CliRunner().invoke(app, ["environments", "build", "nowhere"])
    assert done.exit_code == 1
    assert "known are default, judge, data" in str(done.exception)
