"""What errors of redis-py, sockets and servers become; provoked for real in test_server_states."""

from __future__ import annotations

import inspect

import pytest
from redis import exceptions as redis_errors
from redis.asyncio.client import Pipeline

from crucible.broker.redis.translation import STATES, state_of, translate
from crucible.errors import BrokerError, BrokerUnavailable, MemoryFull, NothingStored, NotPermitted

_REPLICA = "You can't write against a read only replica."
KINDS = {"OOM": MemoryFull, "NOPERM": NotPermitted}
_NO_MEMORY = "command not allowed when used memory > 'maxmemory'."


@pytest.mark.parametrize(
    "error",
    [
        redis_errors.ConnectionError("gone"),
        redis_errors.TimeoutError(),
        redis_errors.ConnectionError("max number of clients reached"),
        TimeoutError(),
        ConnectionResetError(104, "reset"),
        OSError(),
    ],
    ids=repr,
)
def test_a_server_that_does_not_answer_may_have_done_it(error: Exception) -> None:
    """Only the answer is missing."""
    assert type(translate(error)) is BrokerUnavailable
    assert state_of(error) == ""


@pytest.mark.parametrize(
    ("error", "state"),
    [
        # As redis-py raises them: the word taken off where it has a class for it.
        (redis_errors.BusyLoadingError("Redis is loading the dataset in memory"), "LOADING"),
        (redis_errors.ReadOnlyError(_REPLICA), "READONLY"),
        (redis_errors.OutOfMemoryError(_NO_MEMORY), "OOM"),
        (redis_errors.NoPermissionError("User u has no permissions"), "NOPERM"),
        (redis_errors.AuthenticationError("required.", status_code="NOAUTH"), "NOAUTH"),
        (redis_errors.AuthenticationError("invalid username-password pair"), "WRONGPASS"),
        (redis_errors.ClusterCrossSlotError("Keys in request"), "CROSSSLOT"),
        (redis_errors.ResponseError("MISCONF cannot persist"), "MISCONF"),
        (redis_errors.ResponseError("NOREPLICAS Not enough good replicas to write."), "NOREPLICAS"),
        (
            redis_errors.ResponseError("UNBLOCKED force unblock"),
            "UNBLOCKED",
        ),
        # Up to 6.2: of a script that raised, and as a script sees it.
        (
            redis_errors.ResponseError(
                "Error running script (call to f_c728c56a): @user_script:12: "
                f"@user_script: 12: -OOM {_NO_MEMORY}"
            ),
            "OOM",
        ),
        (redis_errors.ResponseError(f"@user_script: 40: -READONLY {_REPLICA}"), "READONLY"),
        (
            redis_errors.ResponseError(
                "Error running script (call to f_c7): @user_script:19: @user_script: 19: "
                "The user executing the script can't run this command or subcommand"
            ),
            "NOPERM",
        ),
        (redis_errors.ResponseError("ACL failure in script: User u has no permissions"), "NOPERM"),
    ],
)
def test_a_state_of_the_server_is_known_by_its_word(error: Exception, state: str) -> None:
    """Whoever gets it knows that nothing happened, and why."""
    assert state_of(error) == state
    translated = translate(error)
    assert type(translated) is KINDS.get(state, NothingStored)
    assert state in str(translated)
    assert state in STATES


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (redis_errors.ResponseError("MISCONF Errors writing to the AOF file"), "MISCONF"),
        (redis_errors.ResponseError("NOREPLICAS Not enough good replicas to write."), "NOREPLICAS"),
        (redis_errors.ResponseError(f"@user_script: 40: -READONLY {_REPLICA}"), "READONLY"),
        (redis_errors.OutOfMemoryError(_NO_MEMORY), "OOM"),
        (redis_errors.AuthenticationError("required.", status_code="NOAUTH"), "NOAUTH"),
        (redis_errors.ResponseError("WRONGTYPE Operation against a key"), ""),
        (redis_errors.ResponseError(), ""),
    ],
    ids=repr,
)
def test_an_error_of_a_pipeline_says_what_the_server_said(
    error: redis_errors.ResponseError, state: str
) -> None:
    """redis-py puts the command in front, whose arguments are nobody's business."""
    alone = redis_errors.ResponseError(*error.args)
    command = ("HSET", "webhook", "whsec of pipeline caused error: ('OOM',)")
    Pipeline.annotate_exception(None, error, 3, command)  # type: ignore[arg-type]
    assert "whsec" in str(error)
    assert state_of(error) == state
    assert "whsec" not in str(translate(error))
    if not state:
        assert str(translate(error)) == str(translate(alone))


@pytest.mark.parametrize("said", ["MISCONF as older versions write it", "5", "'OOM'"])
def test_an_error_of_a_pipeline_that_is_no_tuple_is_taken_as_it_is(said: str) -> None:
    """Whatever redis-py makes of it."""
    error = redis_errors.ResponseError(f"Command # 1 (GET k) of pipeline caused error: {said}")
    assert said in str(translate(error))


@pytest.mark.parametrize(
    "text",
    [
        "WRONGTYPE Operation against a key holding the wrong kind of value",
        "Error running script (call to f_1): @user_script:1: @user_script: 1: -WRONGTYPE Operation",
        "string exceeds maximum allowed size (proto-max-bulk-len)",
        "unknown command 'X', with args beginning with: '-OOMPH '",
    ],
)
def test_what_is_wrong_with_the_command_is_refused(text: str) -> None:
    """Another time will not help."""
    assert type(translate(redis_errors.ResponseError(text))) is BrokerError


def test_every_redis_error_is_known() -> None:
    """No error class of redis-py is without a translation, and each translation says something."""
    classes = [
        kind
        for _, kind in inspect.getmembers(redis_errors, inspect.isclass)
        if issubclass(kind, redis_errors.RedisError)
    ]
    assert len(classes) > 20
    for kind in classes:
        translated = translate(kind.__new__(kind))
        assert isinstance(translated, BrokerError)
        assert str(translated)
