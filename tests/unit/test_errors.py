from __future__ import annotations

import ast
import inspect
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from crucible import errors

SAMPLES = {
    errors.NotReplicated: (0, 1, "e"),
    errors.InputError: ("limits.pids", "must be positive"),
    errors.ParameterError: ("wait", "must be a number"),
    errors.ConflictError: ("eval_id", "was used"),
    errors.SettingsError: ("CRUCIBLE_PORT", "too high"),
    errors.RequirementError: ("no engine", "install docker.io"),
    errors.QueueFull: ("batch", 7),
    errors.ApiRefused: (422, {"field": "code", "detail": "must not be empty"}, 2.0),
    errors.QuotaExceeded: (1.5, 20.0, True, '"submit";q=1;w=1'),
    errors.Unauthenticated: ("the key is not valid", True),
    errors.SessionQuota: (3,),
    errors.TaskFailed: ("ValueError", ["bang", 42], "builtins", "Traceback"),
}
TREE = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.CrucibleError)
]


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_an_error_survives_pickling(kind: type[errors.CrucibleError]) -> None:
    """Prefork children and result backends rebuild errors from their arguments."""
    error = kind(*SAMPLES.get(kind, ("words",)))
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_what_an_error_says_is_one_sentence_for_people() -> None:
    """The text names what is wrong and, where there is one, the remedy."""
    assert str(errors.InputError("", "not JSON")) == "not JSON"
    assert str(errors.InputError("code", "must not be empty")) == "code: must not be empty"
    assert str(errors.RequirementError("no engine", "do x")) == "no engine (do x)"
    assert str(errors.QueueFull("batch", 7)) == "queue batch is full: 7 messages are waiting"
    failed = errors.TaskFailed("ValueError", ["bang", 42])
    assert str(failed) == "ValueError: bang, 42"


def test_an_error_outside_the_tree_stays_in_its_room() -> None:
    """Catching a class of the tree catches the refinements that a room keeps to itself."""
    room_of_error = {
        node.name: room for room, node in _classes() if room != "errors" and _is_ours(node.name)
    }
    assert "ProgramLost" in room_of_error  # or nothing is looked at here
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            for alias in node.names if isinstance(node, ast.ImportFrom) else []:
                home = room_of_error.get(alias.name, _room_of(path))
                assert home == _room_of(path), f"{path}: {alias.name} belongs to {home}"


def _classes() -> Iterator[tuple[str, ast.ClassDef]]:
    """Every class of the package, with its room."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                yield _room_of(path), node


def _room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def _is_ours(name: str) -> bool:
    """Whether a class of this name descends from ``CrucibleError``."""
    return name == "CrucibleError" or any(map(_is_ours, BASES.get(name, ())))


PACKAGE = Path(errors.__file__).parent
BASES = {
    node.name: [base.id for base in node.bases if isinstance(base, ast.Name)]
    for _, node in _classes()
}
