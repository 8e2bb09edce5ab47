"""Items of a body, however its bytes are cut."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crucible.errors import InputError
from crucible.http.items import ArraySplitter, ItemSplitter, LineSplitter

MOST = 1 << 20
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('ab"\\[]{},\n é', max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text('k"\\}', max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


def split(splitter: ItemSplitter, body: bytes, size: int) -> list[Any]:
    """The items of a body that arrives in pieces of ``size`` bytes."""
    items: list[bytes | None] = []
    for start in range(0, len(body), size):
        items += splitter.feed(body[start : start + size])
    items += splitter.finish()
    return [None if item is None else json.loads(item) for item in items]


@given(st.lists(JSON, max_size=6), st.integers(1, 40), st.sampled_from([None, 1]), st.booleans())
def test_an_array_is_split_as_json_has_it(
    values: list[Any], size: int, indent: int | None, ascii_only: bool
) -> None:
    """Whatever is inside the items, and wherever the bytes are cut."""
    body = json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode()
    assert split(ArraySplitter(MOST), body, size) == values


@given(st.lists(JSON, max_size=6), st.integers(1, 40), st.sampled_from(["\n", "\r\n", "\n\n"]))
def test_every_line_is_an_item(values: list[Any], size: int, end: str) -> None:
    """Blank lines are none, and the last needs no end."""
    body = end.join(json.dumps(value) for value in values).encode()
    assert split(LineSplitter(MOST), body, size) == values
    assert split(LineSplitter(MOST), body + end.encode(), size) == values


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize(
    "large",
    [
        {"code": "x" * 300},
        {"code": '"\\,{[' * 100},
        {"files": [{"name": "}" * 200}], "code": "y" * 200},
        ["z" * 300, {"a": 1}],
    ],
)
def test_an_item_that_is_too_large_is_one_item(large: Any, size: int) -> None:
    """Those beside it are read, and it is not kept."""
    small: Any = {"code": "1"}
    body = json.dumps([small, large, small, large]).encode()
    assert split(ArraySplitter(200), body, size) == [small, None, small, None]
    lines = b"\n".join(json.dumps(one).encode() for one in (small, large, small, large))
    assert split(LineSplitter(200), lines, size) == [small, None, small, None]


def test_no_more_than_an_item_is_held() -> None:
    """A body of one endless string costs no memory."""
    array, lines = ArraySplitter(1000), LineSplitter(1000)
    array.feed(b'[{"code":"')
    for _ in range(1000):
        assert array.feed(b"x" * 5000) == []
        assert lines.feed(b"x" * 5000) == []
    assert len(array._buffer) + len(lines._partial) <= 2000


@pytest.mark.parametrize(
    "body", ["", " ", "{}", "1", "[", "[1", "[1,]", "[,1]", "[1,,2]", "[}]", "[1]]", "[1] 2", '["']
)
def test_what_is_no_array_is_refused(body: str) -> None:
    with pytest.raises(InputError):
        split(ArraySplitter(MOST), body.encode(), 3)
