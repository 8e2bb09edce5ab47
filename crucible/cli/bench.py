"""``crucible bench``: run the benchmarks and judge the targets. Needs a checkout of the project."""

from __future__ import annotations

import asyncio
import importlib.util
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from crucible.cli import bench_budgets
from crucible.errors import RequirementError, SettingsError

if TYPE_CHECKING:
    from benchmarks.report import Report

_CHECKOUT = Path(__file__).resolve().parent.parent.parent
#: Benchmarks that are commands of their own and no part of ``all``, by the name they have here.
_COMMANDS = {
    "growth": "benchmarks.growth.__main__",
}


def command(
    scenario: Annotated[str, typer.Argument(help="A scenario, all, budgets, growth.")] = "all",
    subjects: Annotated[
        str | None, typer.Option(help="Only these, separated by commas.", show_default=False)
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(help="Of all these scenarios, separated by commas.", show_default=False),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Measurements of each subject.")] = 5,
    seconds: Annotated[
        float, typer.Option(min=0.0, help="Length of one; 0: the scenario's own.")
    ] = 0.0,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write everything to FILE.", show_default=False)
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw plots into DIR.", show_default=False)
    ] = None,
    compare: Annotated[
        Path | None, typer.Option(help="An earlier --json FILE.", show_default=False)
    ] = None,
    features: Annotated[
        bool,
        typer.Option(
            "--features",
            help="With submit: what history, metrics, events and traces cost it.",
        ),
    ] = False,
    report: Annotated[
        bool, typer.Option("--report", help="With budgets: show them, and fail for none.")
    ] = False,
    scale: Annotated[
        float, typer.Option(min=0.0001, max=1.0, help="Shrink counts, to test the harness itself.")
    ] = 1.0,
) -> None:
    """Measure throughput and latency beside baselines and other systems, and judge the targets.

    Exit code 1 when a measured target is missed, 3 when a target could not be judged. Ctrl-C stops
    the run and shows what was measured until then. budgets measures the hot paths against their
    budgets of processor time instead (benchmarks/budgets.toml).
    """
    _check_here(plot is not None)
    if module := _COMMANDS.get(scenario):
        raise typer.Exit(import_module(module).main([]))
    if features:
        if scenario != "submit":
            raise SettingsError("--features", "belongs to: crucible bench submit")
        scenario = "features"
    from benchmarks import runner

    names, scenarios = _names(subjects), _names(only)
    if scenarios and scenario != runner.ALL:
        raise SettingsError("--only", "belongs to: crucible bench all")
    if scenario == "budgets":
        bench_budgets.run(names, repeats, scale, json_file, report=report)
        return
    plan = runner.Plan(
        scenario=scenario,
        only=scenarios,
        subjects=names,
        repeats=repeats,
        seconds=seconds,
        scale=scale,
    )
    earlier = _earlier(compare)
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    ) as bar:
        shown = bar.add_task("starting", total=None)

        def progress(what: str, done: int, total: int) -> None:
            bar.update(shown, description=what, completed=done, total=total)

        run = runner.Run(plan, progress, partial(_write, json_file))
        console.print(_foretold(run.expected_s), markup=False)
        try:
            asyncio.run(run.carry_out())
        finally:
            # Also after Ctrl-C or a bug: a run takes a quarter of an hour, so its figures are kept.
            bar.stop()
            measured = run.report()
            _write(json_file, measured)
            _show(measured, earlier)
            if plot is not None:
                _draw(plot, measured)
    if any(verdict.outcome.value == "FAIL" for verdict in measured.verdicts()):
        raise typer.Exit(1)
    if measured.unjudged() or not measured.figures:
        raise typer.Exit(3)


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def _foretold(expected_s: dict[str, float]) -> str:
    """Such as ``about 3 min: batch 55 s, wait 30 s``."""
    parts = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in expected_s.items())
    return f"about {max(1, round(sum(expected_s.values()) / 60))} min: {parts}"


def _write(path: Path | None, measured: Report) -> None:
    from benchmarks import report

    if path is not None:
        report.write(measured, path)


def _draw(directory: Path, measured: Report) -> None:
    from benchmarks import plots

    plots.draw(measured, directory)


def _check_here(plotting: bool) -> None:
    import sys

    if not (_CHECKOUT / "benchmarks" / "runner.py").is_file():
        raise RequirementError(
            "the benchmarks are not part of the installed package",
            "run this in a checkout of the project, installed with pip install -e '.[bench]'",
        )
    for name in ("psutil", *(["matplotlib"] if plotting else [])):
        if importlib.util.find_spec(name) is None:
            raise RequirementError(f"{name} is missing", "pip install -e '.[bench]'")
    if str(_CHECKOUT) not in sys.path:
        sys.path.insert(0, str(_CHECKOUT))


def _earlier(path: Path | None) -> Report | None:
    if path is None:
        return None
    import msgspec

    from benchmarks import report

    try:
        return report.read(path)
    except (OSError, msgspec.MsgspecError) as error:
        raise SettingsError("--compare", f"{path}: {error}") from None


def _show(measured: Report, earlier: Report | None) -> None:
    from benchmarks import report

    out = Console(width=None if Console().is_terminal else 160)
    described = measured.machine
    out.print(
        f"{described['processor']}, {described['cores']} cores, {described['memory_mb']} MiB, "
        f"{described['system']}, kernel {described['kernel']}, load {described['load_before']}, "
        f"{measured.started_at}, {measured.seconds:.0f} s"
    )
    out.print(", ".join(f"{name} {text}" for name, text in described["versions"].items()))
    for scenario in dict.fromkeys(figure.scenario for figure in measured.figures):
        out.print(report.figures_table(measured, scenario))
    if measured.latencies:
        out.print(report.latency_table(measured))
    if measured.took_s:
        out.print(report.times_table(measured))
    if earlier is not None:
        out.print(report.changes_table(measured, earlier))
    if measured.failures:
        out.print(report.failures_table(measured))
    if measured.verdicts():
        out.print(report.targets_table(measured))
    for target in measured.unjudged():
        out.print(f"cannot be judged: {target.what}", style="bold red", markup=False)
    for note in measured.notes:
        out.print(f"note: {note}", markup=False)
    if not measured.whole:
        out.print("incomplete: the run was stopped early")
