from __future__ import annotations

import inspect
import pickle

import pytest

from crucible import errors

SAMPLES = {
    errors.InputError: ("limits.pids", "must be positive"),
    errors.ConflictError: ("eval_id", "was used"),
    errors.SettingsError: ("CRUCIBLE_PORT", "too high"),
    errors.RequirementError: ("no engine", "install docker.io"),
    errors.QueueFull: ("batch", 7),
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
