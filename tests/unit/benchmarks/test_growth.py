"""How cost grows: lines and bends, and the command at tiny sizes."""

from __future__ import annotations

import argparse
import asyncio
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from benchmarks.growth.__main__ import PARTS, main, names, sizes
from benchmarks.growth.lines import Line, Point, Series, bend, fit, rate_of, ratios, table
from benchmarks.growth.part import Cost, Effort, by_size, median_of
from benchmarks.growth.picture import draw
from crucible.cli.main import app

if TYPE_CHECKING:
    from collections.abc import Sequence


def points(*values: float) -> list[Point]:
    """Values at 1, 10, 100, …"""
    return [Point(10**at, value) for at, value in enumerate(values)]


def linear(*sizes: int, base: float = 5.0, slope: float = 2.0) -> list[Point]:
    """Points of a line."""
    return [Point(size, base + slope * size) for size in sizes]


def test_a_flat_line_is_the_median_of_the_smaller_half() -> None:
    """What the larger sizes cost does not move it."""
    assert fit(points(10, 12, 11, 50, 90), "flat") == Line(11, 0)
    assert fit(points(10), "flat") == Line(10, 0)


def test_a_linear_line_is_found_again() -> None:
    """Base and slope, over orders of magnitude, whatever the largest cost."""
    line = fit([*linear(1, 10, 100, 1000), Point(10_000, 1.0), Point(100_000, 1.0)], "linear")
    assert line.base == pytest.approx(5.0)
    assert line.slope == pytest.approx(2.0)


def test_one_point_is_no_slope() -> None:
    """It is flat, and costs of zero have a line as well."""
    assert fit(linear(10), "linear") == Line(25.0, 0.0)
    assert fit(points(0, 0), "linear") == Line(0.0, 0.0)


def test_nothing_has_no_line() -> None:
    """There is nothing to fit."""
    with pytest.raises(ValueError, match="no points"):
        fit([], "flat")


def test_ratios_are_to_the_line() -> None:
    """Infinite where it is not above zero."""
    assert ratios(points(5, 10), Line(10, 0)) == [0.5, 1.0]
    assert ratios(points(5), Line(-1, 1)) == [math.inf]


@pytest.mark.parametrize(
    ("values", "at"),
    [
        ((10, 10, 10, 10), None),
        ((10, 10, 10, 12), None),
        ((10, 10, 13, 14), 100),
        # Once off the line and back is noise.
        ((10, 10, 20, 10), None),
        ((10, 20, 10, 20), 1000),
        # Cheaper than the line is a bend too: of a rate, it is the one to find.
        ((10, 10, 10, 7), 1000),
    ],
)
def test_a_line_bends_where_all_that_follows_is_off_it(
    values: tuple[float, ...], at: float | None
) -> None:
    """By a quarter, up or down."""
    assert bend(points(*values), Line(10, 0)) == at


def test_the_table_has_ratio_bend_and_what_was_left_out() -> None:
    """One row for each size."""
    series = Series("depth", "messages", "us a task", "flat", points(10, 10, 10, 20), [10_000])
    lines = table(series).splitlines()
    assert lines[0] == "depth: us a task by messages; should be flat"
    assert lines[4].split() == ["1,000", "20.00", "2.00", "x", "line"]
    assert lines[5:] == ["  leaves its line at 1,000", "  no time for 10,000"]
    nothing = Series("depth", "messages", "us a task", "flat", [], [10])
    assert "no size was measured" in table(nothing)
    calculated = Series("workers", "processes", "tasks a second", "flat", points(1, 1), [], False)
    assert "calculated" in table(calculated)
    assert "follows its line" in table(calculated)


def test_processes_are_worth_it_until_the_server_is_busy() -> None:
    """Linear up to its own rate, flat from there."""
    rates = [Point(n, rate_of(n, 40.0, 10.0)) for n in (1, 2, 4, 8)]
    assert [point.value for point in rates] == [25e3, 50e3, 100e3, 100e3]
    line = fit(rates, "proportional")
    assert line == Line(0.0, 25e3)
    assert bend(rates, line) == 8


async def test_a_part_without_time_leaves_sizes_out(tmp_path: Path) -> None:
    """Those after the one at which its time was used up."""

    async def of(size: int) -> Sequence[float]:
        if size > 2:
            await asyncio.Event().wait()
        return [float(size), 1.0]

    costs = (Cost("a", "linear"), Cost("b", "flat"))
    effort = Effort(tmp_path, seconds=0.2)
    first, second = await by_size(effort, "part", "things", (1, 2, 3, 4), costs, of)
    assert first.points == [Point(1, 1.0), Point(2, 2.0)]
    assert second.points == [Point(1, 1.0), Point(2, 1.0)]
    assert first.left_out == second.left_out == [3, 4]


async def test_a_measurement_that_fails_by_itself_is_no_lack_of_time(tmp_path: Path) -> None:
    """Its own deadline is an error."""

    async def of(size: int) -> Sequence[float]:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await by_size(Effort(tmp_path), "part", "things", (1,), (Cost("a", "flat"),), of)


async def test_the_first_turn_does_not_count() -> None:
    """The median is of the others."""
    turns = iter([[100.0, 100.0], [1.0, 9.0], [3.0, 7.0], [2.0, 8.0]])

    async def measure() -> Sequence[float]:
        return next(turns)

    assert await median_of(3, measure) == [2.0, 8.0]


def test_sizes_are_those_asked_for(tmp_path: Path) -> None:
    """Given, or the part's own, or those of them that are quick."""
    assert Effort(tmp_path, sizes={"depth": [3]}, quick=True).of("depth", (1, 9), 1) == [3]
    assert Effort(tmp_path, quick=True).of("depth", (1, 9), 1) == [1]
    assert Effort(tmp_path).of("depth", (1, 9), 1) == [1, 9]


def test_arguments() -> None:
    """Names of parts, and rising sizes."""
    assert names("depth, tests") == ["depth", "tests"]
    assert sizes("depth=1,20") == ("depth", [1, 20])
    for wrong in ("nothing=1", "depth", "depth=2,1", "depth=0,1", "depth=x"):
        with pytest.raises(argparse.ArgumentTypeError):
            sizes(wrong)
    assert list(PARTS) == ["depth", "tenants", "keys", "history", "sse", "tests", "workers"]


def test_a_plot_for_each_part(tmp_path: Path) -> None:
    """With all its costs; none for a part without points."""
    found = [
        Series("depth", "messages", "us", "flat", points(1, 2, 9)),
        Series("depth", "messages", "us too", "linear", points(1, 2, 9)),
        Series("sse", "clients", "MiB", "linear", []),
    ]
    paths = draw(found, tmp_path / "plots")
    assert [path.name for path in paths] == ["growth-depth.svg"]
    assert "<svg" in paths[0].read_text()


def test_growth_is_a_benchmark_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """``crucible bench growth`` runs it and has its exit code."""
    monkeypatch.setattr("benchmarks.growth.__main__.main", lambda words: 7 if words == [] else 8)
    assert CliRunner().invoke(app, ["bench", "growth"]).exit_code == 7


def test_the_command_at_tiny_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tables, JSON and plots of real queues and containers."""
    file = tmp_path / "growth.json"
    tiny = ("--sizes", "depth=100,1000", "--sizes", "tests=1,3", "--scale", "0.02")
    to = ("--plot", str(tmp_path), "--json", str(file))
    assert main(["--only", "depth,tests", "--quick", *tiny, *to]) == 0
    found = json.loads(file.read_bytes())
    measured = {(one["part"], one["value"]): one["points"] for one in found["series"]}
    assert len(measured) == 4
    for several in measured.values():
        assert len(several) == 2
        assert all(point["value"] >= 0 for point in several)
    assert found["failed"] == []
    assert "x line" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.glob("*.svg")) == [
        "growth-depth.svg",
        "growth-tests.svg",
    ]
