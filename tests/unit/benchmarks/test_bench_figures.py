from __future__ import annotations

import math

import pytest

from benchmarks.figures import Figure, Figures, Summary, changes, ratios, summary_of
from benchmarks.rate import UnsteadyError, steady
from benchmarks.runner import SCENARIOS, Plan, _Step, rotated, scenario_of, scenarios_of
from benchmarks.targets import Outcome, Target, judge
from crucible.errors import SettingsError

RATE = Target(what="rate", scenario="s", subject="a", metric="x_per_s", against="b", at_least=2.0)


def figures(**values: list[float]) -> Figures:
    """Figures of one metric by subject."""
    return Figures(
        [Figure("s", subject, "x_per_s", list(given)) for subject, given in values.items()]
    )


def test_every_subject_can_be_chosen() -> None:
    """``--subjects`` takes names with commas between them."""
    for name in SCENARIOS:
        assert not [label for label in scenario_of(name).subjects if "," in label], name


def test_only_chooses_scenarios_of_all() -> None:
    """Their order is kept, and one that is no part of ``all`` can be among them."""
    chosen = [one.name for one in scenarios_of(Plan(only=("wait", "soak", "batch")))]
    assert chosen == ["wait", "soak", "batch"]
    everything = {"features", "history", "grading", "rewards", "assessments", "sse"}
    assert everything <= {one.name for one in scenarios_of(Plan())}
    with pytest.raises(SettingsError, match="nosuch"):
        scenarios_of(Plan(only=("batch", "nosuch")))


def test_a_whole_run_takes_less_than_25_minutes() -> None:
    """On the reference machine, with every peer installed."""
    plan = Plan()
    steps = [_Step(one, list(one.subjects)) for one in scenarios_of(plan)]
    assert sum(step.expected_s(plan) for step in steps) < 25 * 60


def test_summary_is_median_and_range() -> None:
    """One wild repeat moves the range and not the median."""
    summary = summary_of([10, 11, 9, 10, 30])
    assert (summary.median, summary.low, summary.high) == (10, 9, 30)
    assert summary.spread == pytest.approx(1.05)


def test_ratios_pair_what_was_measured_together() -> None:
    """A machine twice as slow in one repeat leaves the ratio of that repeat alone."""
    both = figures(a=[100, 50, 100], b=[50, 25, 50])
    found_a, found_b = both.find("s", "a", "x_per_s"), both.find("s", "b", "x_per_s")
    assert found_a is not None
    assert found_b is not None
    assert ratios(found_a, found_b) == [2.0, 2.0, 2.0]


@pytest.mark.parametrize(
    ("a", "outcome"), [([20.0, 21.0], Outcome.PASS), ([19.0, 18.0], Outcome.FAIL)]
)
def test_a_ratio_is_judged_by_its_median(a: list[float], outcome: Outcome) -> None:
    """A target passes at its bound and fails below it."""
    [verdict] = judge(figures(a=a, b=[10.0, 10.0]), [RATE])
    assert verdict.outcome is outcome


def test_what_was_not_measured_does_not_pass() -> None:
    """Without the figure, or without what it is divided by, there is no verdict."""
    assert judge(figures(b=[1.0]), [RATE])[0].outcome is Outcome.UNMEASURED
    assert judge(figures(a=[1.0]), [RATE])[0].outcome is Outcome.UNMEASURED


def test_an_upper_bound_is_judged_too() -> None:
    """At most means at most."""
    bound = Target(what="size", scenario="s", subject="a", metric="x_per_s", at_most=5.0)
    assert judge(figures(a=[5.0]), [bound])[0].outcome is Outcome.PASS
    assert judge(figures(a=[5.1]), [bound])[0].outcome is Outcome.FAIL


def test_changes_within_noise_are_the_same() -> None:
    """A change smaller than either run's spread is no change; a larger one has a direction."""
    now, noisy = figures(a=[110, 112, 108]), figures(a=[80, 100, 120])
    assert [change.verdict for change in changes(now, noisy)] == ["same"]
    assert [change.verdict for change in changes(now, figures(a=[100, 101, 99]))] == ["better"]
    assert [change.verdict for change in changes(now, figures(a=[150, 151, 149]))] == ["worse"]


def test_lower_times_are_better() -> None:
    """What is no rate improves by falling."""
    now = Figures([Figure("s", "a", "p99_ms", [5.0])])
    before = Figures([Figure("s", "a", "p99_ms", [10.0])])
    assert [change.verdict for change in changes(now, before)] == ["better"]


def test_the_steady_rate_leaves_out_start_and_end() -> None:
    """Two seconds of starting and a slow end do not count; the middle does."""
    samples = [(float(at), 1000, None) for at in range(3)]
    samples += [(2 + step / 10, 1000 - step * 10, None) for step in range(1, 100)]
    samples += [(60.0, 0, None)]
    found = steady(samples, 1000)
    assert found.per_s == pytest.approx(100, rel=0.02)
    assert math.isnan(found.cpu_us)


def test_processor_time_is_taken_between_samples() -> None:
    """Processor time used before the first message ended does not count."""
    samples = [(0.0, 100, 3.0), (1.0, 50, 3.5), (2.0, 0, 4.0)]
    assert steady(samples, 100).cpu_us == pytest.approx(10_000)


def test_an_unfinished_queue_has_no_rate() -> None:
    """More than half left at the end is an error with the number; less is a rate all the same."""
    with pytest.raises(UnsteadyError, match="51 of 100"):
        steady([(0.0, 100, None), (1.0, 51, None)], 100)
    samples = [(0.0, 100, None), (1.0, 80, None), (2.0, 60, None), (3.0, 40, None)]
    assert steady(samples, 100).per_s == pytest.approx(20)


def test_a_list_done_between_few_looks_has_a_rate() -> None:
    """A looker that was kept from looking takes the widest bracket it has."""
    samples = [(0.0, 100, None), (1.0, 100, None), (2.0, 0, None)]
    assert steady(samples, 100).per_s == pytest.approx(100)
    samples = [(0.0, 100, None), (1.0, 100, None), (1.5, 50, None), (1.6, 50, None), (2.0, 0, None)]
    assert steady(samples, 100).per_s == pytest.approx(100)


def test_a_list_that_nobody_saw_full_has_no_rate() -> None:
    """Looking at the wrong list, which is empty, is told as what it is."""
    with pytest.raises(UnsteadyError, match="at the first sample 0 of 100"):
        steady([(0.0, 0, None)], 100)


def test_ratios_leave_out_repeats_that_one_side_lacks() -> None:
    """A repeat that failed is not paired with another one's."""
    both = Figures()
    for repeat in (1, 2, 0):
        both.record("s", "a", "x_per_s", 10.0 * (repeat + 1), repeat)
    for repeat in (0, 2):
        both.record("s", "b", "x_per_s", 5.0 * (repeat + 1), repeat)
    found_a, found_b = both.find("s", "a", "x_per_s"), both.find("s", "b", "x_per_s")
    assert found_a is not None
    assert found_b is not None
    assert ratios(found_a, found_b) == [2.0, 2.0]


def test_a_pooled_percentile_is_judged_by_all_repeats_together() -> None:
    """The percentile of all values counts; the spread is that of the repeats."""
    target = Target(
        what="p99", scenario="s", subject="a", metric="x_per_s", at_most=30.0, pooled=True
    )
    [verdict] = judge(figures(a=[40.0, 10.0, 50.0]), [target], {("s", "a", "x_per_s"): 29.0})
    assert verdict.outcome is Outcome.PASS
    assert verdict.measured == Summary(29.0, 10.0, 50.0, 3)


def test_subjects_of_targets_are_repeated_in_a_run_of_everything() -> None:
    """Others are measured once there, and as often as asked when their scenario is named."""
    step = _Step(scenario_of("worker"), ["celery prefork", "arq"])
    assert [label for _, label in step.turns(Plan(repeats=3))].count("celery prefork") == 3
    assert [label for _, label in step.turns(Plan(repeats=3))].count("arq") == 1
    assert len(step.turns(Plan(scenario="worker", repeats=3))) == 6


def test_a_scenario_may_ask_for_more_rounds() -> None:
    """Each is a repeat of its own, and what no target is about is measured once all the same."""
    depth = scenario_of("depth")
    turns = _Step(depth, ["1k", "10k"]).turns(Plan(repeats=2))
    assert [repeat for repeat, label in turns if label == "1k"] == list(range(2 * depth.rounds))
    assert [label for _, label in turns].count("10k") == 1


def test_every_subject_goes_first_once() -> None:
    """Subjects take turns in going first."""
    assert [rotated("abc", repeat) for repeat in range(3)] == [
        list("abc"),
        list("bca"),
        list("cab"),
    ]
    assert rotated([], 3) == []


def test_unknown_names_are_settings_errors() -> None:
    """A scenario or subject that is not there is named."""
    with pytest.raises(SettingsError, match="nosuch"):
        scenario_of("nosuch")
    with pytest.raises(SettingsError, match="--subjects: no nosuch"):
        scenarios_of(Plan(scenario="submit", subjects=("nosuch",)))


def test_every_target_can_be_measured() -> None:
    """Each target names a scenario and subjects that exist."""
    from benchmarks.targets import TARGETS

    for target in TARGETS:
        if target.scenario not in SCENARIOS:
            continue
        subjects = scenario_of(target.scenario).subjects
        assert target.subject in subjects, target.what
        assert not target.against or target.against in subjects, target.what
