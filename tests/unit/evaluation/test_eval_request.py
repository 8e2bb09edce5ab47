from __future__ import annotations

import contextlib
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crucible.environments import DATA
from crucible.errors import InputError
from crucible.evaluation.limits import DEFAULTS, LimitsRequest, checked_limits
from crucible.evaluation.request import (
    EvalRequest,
    celery_priority,
    check_request,
    decode_request,
    digest_of,
    options_of,
    program_from,
    queue_of,
)
from crucible.executor.admission import check_program
from crucible.executor.served import ServedEnvironments
from crucible.models import LIMIT_FLOORS, Limits

LANGUAGES = ("python", "bash")
SERVED = ServedEnvironments()
CEILINGS = Limits(
    wall_time_s=60, cpu_time_s=60, memory_mb=512, pids=128, output_kb=4096, disk_mb=256
)


def refused(body: object) -> InputError:
    """The error a body gets, from its bytes to the end of all checks."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(InputError) as caught:
        check_request(decode_request(raw), SERVED, CEILINGS)
    return caught.value


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", ""),
        (b"{", ""),
        (b"[1", ""),
        (b"\xff\xfe", ""),
        (b'{"code": NaN}', "code"),
        (b"NaN", ""),
        (b'{"code": "x", "limits": {"wall_time_s": NaN}}', "limits.wall_time_s"),
        (b'{"code": "x", "limits": {"cpu_time_s": -Infinity}}', "limits.cpu_time_s"),
        (b'{"code": "x", "limits": {"memory_mb": Infinity}}', "limits.memory_mb"),
        (b'{"code": "x", "priority": NaN}', "priority"),
        (b'{"code": "x", "stdin": NaN, "metadata": {"a": NaN}}', "stdin"),
        (b'{"code": "x", "metadata": {"a": [{"b": NaN}]}}', "metadata.a[0].b"),
        (b'{"code": "x", "priority": NaN, "a": 1%s}' % (b"0" * 5000), ""),
        (b'{"code": "x", "priority": NaN, "a": %s%s}' % (b"[" * 9999, b"]" * 9999), ""),
        (b'{"code": "x", "priority": NaN', ""),
        (b'{"code": "x", "priority": NaN, "args": ["\xff"]}', ""),
        (b'{"code": "\\ud800"}', "code"),
        (b'{"code": "x", "args": ["\\ud83d\\ude00", "\\udc00"]}', "args[1]"),
        (b'{"code": "x", "metadata": {"a": {"\\ud800": NaN}}}', "metadata.a"),
        (b'{"code": "x", "metadata": {"a": 1e999}}', "metadata"),
        (b'{"code": "x", "metadata": {"a": 18446744073709551616}}', "metadata"),
        (b'{"code": "x", "metadata": {"a": [-9223372036854775809]}}', "metadata"),
        ([], ""),
        ("text", ""),
        ({}, "code"),
        ({"code": None}, "code"),
        ({"code": 5}, "code"),
        ({"code": ""}, "code"),
        ({"code": " \n\t"}, "code"),
        ({"code": "x", "language": "cobol"}, "language"),
        ({"code": "x", "language": 5}, "language"),
        ({"code": "x", "nosuch": 1}, "nosuch"),
        ({"code": "x", "eval_id": "a b"}, "eval_id"),
        ({"code": "x", "eval_id": "../x"}, "eval_id"),
        ({"code": "x", "eval_id": "a\n"}, "eval_id"),
        ({"code": "x", "eval_id": ""}, "eval_id"),
        ({"code": "x", "eval_id": "a" * 129}, "eval_id"),
        ({"code": "x", "priority": 10}, "priority"),
        ({"code": "x", "stdin": "a" * (15 << 20), "limits": {"memory_mb": 16}}, "limits.memory_mb"),
        (
            {
                "code": "x",
                "files": [{"name": "a", "content": "a" * (6 << 20)}],
                "limits": {"memory_mb": 16},
            },
            "limits.memory_mb",
        ),
        (
            {"code": "x", "files": [{"name": "a", "content": "", "executable": "yes"}]},
            "files[0].executable",
        ),
        ({"code": "x", "priority": -1}, "priority"),
        ({"code": "x", "priority": "5"}, "priority"),
        ({"code": "x", "priority": True}, "priority"),
        ({"code": "x", "args": "a"}, "args"),
        ({"code": "x", "args": ["a", 5]}, "args[1]"),
        ({"code": "x", "args": ["a", "b\0"]}, "args[1]"),
        ({"code": "x", "args": ["a"] * 100_000}, "args"),
        ({"code": "x", "args": ["a" * 200_000]}, "args"),
        ({"code": "x", "args": ["\U0001f600" * 40_000]}, "args"),
        ({"code": "x", "env": {"A=B": "x"}}, "env.A=B"),
        ({"code": "x", "env": {"LD_LIBRARY_PATH": "/x"}}, "env.LD_LIBRARY_PATH"),
        ({"code": "x", "env": {"LD_PRELOAD": "x"}}, "env.LD_PRELOAD"),
        ({"code": "x", "env": {"LD_AUDIT": "x"}}, "env.LD_AUDIT"),
        ({"code": "x", "env": {"A": "\U0001f600" * 40_000}}, "env"),
        ({"code": "x", "env": {"A": "x\0"}}, "env.A"),
        ({"code": "x", "env": {"A": "", "B": 5, "C": "x"}}, "env.B"),
        (b'{"code": "x", "env": {"A": 5}, "env": null}', "env"),
        (b'{"code": "x", "env": {"A": 5}, "env": {}}', "env"),
        (b'{"code": "x", "env": {"A": 5}', "env"),
        ({"code": "x", "env": {"A" * 99: None}}, "env." + "A" * 40),
        ({"code": "x", "stdin": 5}, "stdin"),
        ({"code": "x", "stdin": "!", "stdin_encoding": "base64"}, "stdin"),
        ({"code": "x", "metadata": {"a": "b" * 5000}}, "metadata"),
        ({"code": "x", "limits": {"memory_mb": 0}}, "limits.memory_mb"),
        ({"code": "x", "limits": {"memory_mb": -1}}, "limits.memory_mb"),
        ({"code": "x", "limits": {"memory_mb": 513}}, "limits.memory_mb"),
        ({"code": "x", "limits": {"memory_mb": "5"}}, "limits.memory_mb"),
        ({"code": "x", "limits": {"memory_mb": 1.5}}, "limits.memory_mb"),
        ({"code": "x", "limits": {"wall_time_s": 1e308}}, "limits.wall_time_s"),
        ({"code": "x", "limits": {"wall_time_s": 0}}, "limits.wall_time_s"),
        ({"code": "x", "limits": {"wall_time": 1}}, "limits.wall_time"),
        ({"code": "x", "limits": []}, "limits"),
        ({"code": "x", "compile_limits": {"memory_mb": 0}}, "compile_limits.memory_mb"),
        ({"code": "x", "compile_limits": {"memory_mb": 513}}, "compile_limits.memory_mb"),
        ({"code": "x", "compile_limits": {"pids": "5"}}, "compile_limits.pids"),
        ({"code": "x", "compile_limits": {"wall_time_s": 1e308}}, "compile_limits.wall_time_s"),
        (b'{"code": "x", "compile_limits": {"cpu_time_s": NaN}}', "compile_limits.cpu_time_s"),
        ({"code": "x", "compile_limits": {"nosuch": 1}}, "compile_limits.nosuch"),
        ({"code": "x", "files": [{"name": "../x", "content": ""}]}, "files[0].name"),
        ({"code": "x", "files": [{"name": "/x", "content": ""}]}, "files[0].name"),
        ({"code": "x", "files": [{"name": "a\nb", "content": ""}]}, "files[0].name"),
        ({"code": "x", "files": [{"name": "a" * 256, "content": ""}]}, "files[0].name"),
        ({"code": "x", "files": [{"name": "", "content": ""}]}, "files[0].name"),
        ({"code": "x", "files": [{"name": "a", "content": ""}] * 2}, "files[1].name"),
        (
            {"code": "x", "files": [{"name": n, "content": ""} for n in ("a", "a/b")]},
            "files[1].name",
        ),
        ({"code": "x", "files": [{"name": "main.py", "content": ""}]}, "files[0].name"),
        ({"code": "x", "files": [{"name": "main.py/x", "content": ""}]}, "files[0].name"),
        (
            {"code": "x", "files": [{"name": "a" * 200 + "/" + "b" * 200, "content": ""}]},
            "files[0].name",
        ),
        ({"code": "x", "files": [{"name": str(n), "content": ""} for n in range(65)]}, "files"),
        ({"code": "x", "output_files": [str(n) for n in range(65)]}, "output_files"),
        ({"code": "\U0001f600" * (1 << 20) + "x"}, "code"),
        ({"code": "x", "stdin": "x" * ((16 << 20) + 1)}, "stdin"),
        (
            {"code": "x", "files": [{"name": "a", "content": "!", "encoding": "base64"}]},
            "files[0].content",
        ),
        ({"code": "x", "output_files": ["a/../b"]}, "output_files[0]"),
    ],
)
def test_a_bad_body_is_refused_with_its_field_named(body: object, field: str) -> None:
    """Whatever is wrong, the error says where."""
    assert refused(body).field == field


def test_metadata_nested_too_deep_is_refused() -> None:
    """What a shallow call could read would be unreadable deeper; many lists are not deep ones."""
    for depth in (100, 500, 900):
        error = refused(b'{"code":"x","metadata":{"a":' + b"[" * depth + b"]" * depth + b"}}")
        assert error.field == "metadata"
    for text in (b"[" * 99 + b"]" * 99, b"[" + b"[]," * 500 + b'{"a":[]}]'):
        asked = decode_request(b'{"code":"x","metadata":{"a":' + text + b"}}")
        check_request(asked, SERVED, CEILINGS)


def test_a_path_is_cut_before_it_costs_anything() -> None:
    """A long key above many values is not copied for each of them."""
    body = b'{"metadata": {"%s": [%s NaN]}}' % (b"k" * 200_000, b"1," * 200_000)
    assert refused(body).field == "metadata." + "k" * 40 + "[200000]"
    deep = b'{"metadata":' + b'{"kkkkkkkkkk":' * 90 + b"NaN" + b"}" * 91
    assert len(refused(deep).field) == 200
    unknown = refused({"code": "x", "k" * 200_000: 1})
    assert len(unknown.field) == 200
    assert len(str(unknown)) < 1000


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_an_input_error(body: bytes) -> None:
    """Garbage is a client's error, never a crash."""
    with contextlib.suppress(InputError):
        decode_request(body)


@given(
    st.dictionaries(
        st.sampled_from(["code", "language", "limits", "env", "args", "files", "priority"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=5,
        ),
    )
)
def test_no_shape_raises_anything_but_an_input_error(body: dict[str, object]) -> None:
    """The same for JSON of any shape."""
    with contextlib.suppress(InputError):
        check_request(decode_request(json.dumps(body).encode()), SERVED, CEILINGS)


_NAMES = st.sampled_from(["a", "a/b", "main.py", "main.sh", "main.sh/x", "b\\c", "é" * 128, "."])


@given(
    st.fixed_dictionaries(
        {"code": st.sampled_from(["x", "x" * ((4 << 20) + 1), "é" * (2 << 20)])},
        optional={
            "language": st.sampled_from(LANGUAGES),
            "args": st.lists(st.text(max_size=3) | st.just("é" * 65_536), max_size=3),
            "env": st.dictionaries(
                st.sampled_from(["A", "LD_AUDIT", "LD_PRELOAD", "LD_LIBRARY_PATH", "=", "B" * 129]),
                st.text(max_size=3) | st.just("é" * 65_536),
            ),
            "files": st.lists(
                st.fixed_dictionaries(
                    {"name": _NAMES, "content": st.sampled_from(["", "eA==", "!"])},
                    optional={"encoding": st.just("base64")},
                ),
                max_size=3,
            ),
            "output_files": st.lists(_NAMES, max_size=66),
            "isolation": st.sampled_from(["container", "nested"]),
        },
    )
)
def test_what_the_http_door_takes_the_executor_takes(body: dict[str, object]) -> None:
    """No request that was accepted ends as a fault of the platform because of its form."""
    asked = decode_request(json.dumps(body).encode())
    try:
        check_request(asked, SERVED, CEILINGS)
    except InputError:
        return
    sent = json.loads(json.dumps(options_of(asked)))
    check_program(
        program_from("id", asked.code, asked.language, sent, served=SERVED, ceilings=CEILINGS),
        CEILINGS,
    )


def test_only_what_differs_from_the_default_is_sent() -> None:
    """A plain program's message carries no options at all."""
    assert options_of(EvalRequest(code="x", priority=7)) == {}
    given_ = decode_request(b'{"code":"x","args":["a"],"limits":{"pids":5,"memory_mb":64}}')
    assert options_of(given_)["args"] == ["a"]
    limits = {k: v for k, v in options_of(given_)["limits"].items() if v is not None}
    assert limits == {"pids": 5, "memory_mb": 64}


def test_what_is_sent_comes_back_as_the_program() -> None:
    """The worker rebuilds exactly what the client asked for."""
    body = {
        "code": "x",
        "language": "bash",
        "stdin": "/wA=",
        "stdin_encoding": "base64",
        "args": ["a", ""],
        "env": {"A": "b"},
        "files": [{"name": "d/f", "content": "c"}],
        "output_files": ["out"],
        "limits": {"wall_time_s": 2, "pids": 9},
    }
    asked = decode_request(json.dumps(body).encode())
    sent = json.loads(json.dumps(options_of(asked)))
    program = program_from("id", asked.code, asked.language, sent, served=SERVED, ceilings=CEILINGS)
    assert program.stdin == b"\xff\x00"
    assert (program.args, program.env) == (("a", ""), {"A": "b"})
    assert (program.files[0].name, program.output_files) == ("d/f", ("out",))
    assert (program.limits.wall_time_s, program.limits.pids) == (2.0, 9)
    assert program.limits.memory_mb == DEFAULTS.memory_mb


def test_a_compiler_gets_what_is_asked_for_it() -> None:
    """What a request does not name is the language's, with as much disk as the program has."""
    options = {"compile_limits": {"wall_time_s": 5}, "limits": {"disk_mb": 200}}
    program = program_from("id", "x", "c", options, served=SERVED, ceilings=CEILINGS)
    limits = program.compile_limits
    assert limits is not None
    assert (limits.wall_time_s, limits.cpu_time_s, limits.disk_mb) == (5, 30, 200)
    plain = program_from("id", "x", "c", {}, served=SERVED, ceilings=CEILINGS)
    assert plain.compile_limits is None
    script = program_from("id", "x", "sh", options, served=SERVED, ceilings=CEILINGS)
    assert script.compile_limits is None


def test_a_compiler_has_to_have_memory_for_what_it_is_handed() -> None:
    """Else its sandbox could never start, which no retry would mend."""
    many = [{"name": "a.h", "content": "a" * (9 << 20)}]
    body = {"code": "x", "language": "c", "files": many, "compile_limits": {"memory_mb": 16}}
    assert refused(body).field == "compile_limits.memory_mb"
    served = ServedEnvironments((DATA,))
    options = {"compile_limits": {"memory_mb": 32}}
    with pytest.raises(InputError, match="at least 64 in environment 'data'") as caught:
        program_from("id", "x", "c", options, served=served, ceilings=CEILINGS)
    assert caught.value.field == "compile_limits.memory_mb"


@pytest.mark.parametrize(
    "options",
    [
        {"limits": {"pids": 10**9}},
        {"limits": {"wall_time_s": float("nan")}},
        {"compile_limits": {"pids": 10**9}},
        {"nosuch": 1},
    ],
)
def test_the_worker_checks_again(options: dict[str, object]) -> None:
    """A message written straight into the queue gets no more than one through the door."""
    with pytest.raises(InputError):
        program_from("id", "x", "bash", options, served=SERVED, ceilings=CEILINGS)


@given(st.builds(LimitsRequest, memory_mb=st.integers(), pids=st.integers() | st.none()))
def test_limits_are_within_bounds_or_refused(asked: LimitsRequest) -> None:
    """No way leads to a limit below its floor or above its ceiling."""
    try:
        limits = checked_limits(asked, CEILINGS)
    except InputError:
        return
    for name in Limits.__struct_fields__:
        assert getattr(LIMIT_FLOORS, name) <= getattr(limits, name) <= getattr(CEILINGS, name)


def test_defaults_are_lowered_to_a_low_ceiling() -> None:
    """An installation smaller than the defaults still runs programs that ask for nothing."""
    assert checked_limits(None, LIMIT_FLOORS) == LIMIT_FLOORS


def test_the_digest_tells_content_apart_and_nothing_else() -> None:
    """Two spellings of one request agree, any difference in content does not."""
    one = decode_request(b'{"code":"x","env":{"A":"1","B":"2"},"eval_id":"a"}')
    same = decode_request(b'{ "env":{"B":"2","A":"1"}, "code":"x", "language":"python"}')
    assert digest_of(one) == digest_of(same)
    for name in EvalRequest.__struct_fields__:
        if name == "eval_id":
            continue
        changed = msgspec.structs.replace(one, **{name: "changed"})
        assert digest_of(changed) != digest_of(one), name


def test_priorities_choose_queues_as_the_contract_says() -> None:
    """9 is the most urgent for users; on Redis the lower number goes first."""
    queues = [queue_of(priority) for priority in range(10)]
    assert queues == ["batch"] * 3 + ["evaluation"] * 4 + ["high_priority"] * 3
    assert [celery_priority(priority) for priority in (0, 5, 9)] == [9, 4, 0]


@given(st.text(min_size=1), st.sampled_from(["python", "bash"]), st.integers(0, 9), st.booleans())
def test_the_fingerprint_of_a_plain_request_is_that_of_any(
    code: str, language: str, priority: int, marked: bool
) -> None:
    """Known to be plain or not, the same content has the same fingerprint."""
    metadata = {"b": 1, "a": [2]} if marked else None
    asked = EvalRequest(code=code, language=language, priority=priority, metadata=metadata)
    assert not options_of(asked)
    with contextlib.suppress(UnicodeEncodeError):  # a lone surrogate has none
        assert digest_of(asked, plain=True) == digest_of(asked)
