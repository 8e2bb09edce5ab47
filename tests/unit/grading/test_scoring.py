from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crucible.grading.models import Grading, GradingTest, Judgement, Ruling, judgement_of, skipped
from crucible.grading.scoring import StopRule, score_of
from crucible.models import Outcome, Program, Verdict

PROGRAM = Program(language="python", code="x")
JUDGED = [Verdict.ACCEPTED, Verdict.WRONG_ANSWER, Verdict.TIMEOUT, Verdict.PARTIAL]


def grading(*tests: GradingTest) -> Grading:
    """A grading of some tests."""
    return Grading(program=PROGRAM, tests=tests)


def judged(test: GradingTest, verdict: Verdict, points: float = 0.0) -> Judgement:
    """The judgement of a test."""
    return judgement_of(test, Outcome(verdict=Verdict.OK), Ruling(verdict, None, points), 100)


def run(stop: str, tests: list[GradingTest], verdicts: list[Verdict]) -> list[Verdict]:
    """The verdicts there are when a rule decides which tests run."""
    rule, found = StopRule(stop), []  # type: ignore[arg-type]
    for test, verdict in zip(tests, verdicts, strict=True):
        if rule.why_skipped(test):
            found.append(Verdict.SKIPPED)
        else:
            rule.judged(test, verdict)
            found.append(verdict)
    return found


def test_stop_rules() -> None:
    """``never`` runs all, ``first_failure`` none after it, ``group`` none of its group."""
    tests = [
        GradingTest(id=str(n), group=group) for n, group in enumerate(["a", "a", "b", "", "a"])
    ]
    wrong = Verdict.WRONG_ANSWER
    verdicts = [wrong, Verdict.ACCEPTED, Verdict.ACCEPTED, wrong, Verdict.ACCEPTED]
    skip = Verdict.SKIPPED
    assert run("never", tests, verdicts) == verdicts
    assert run("first_failure", tests, verdicts) == [wrong, skip, skip, skip, skip]
    assert run("group", tests, verdicts) == [wrong, skip, Verdict.ACCEPTED, wrong, skip]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(JUDGED))))
def test_groups_do_not_matter_for_each_other(items: list[tuple[str, Verdict]]) -> None:
    """With ``group``, each group ends as if it were alone with ``first_failure``."""
    tests = [GradingTest(id=str(n), group=group) for n, (group, _) in enumerate(items)]
    verdicts = [verdict for _, verdict in items]
    together = run("group", tests, verdicts)
    for group in "ab":
        own = [n for n, test in enumerate(tests) if test.group == group]
        alone = run("first_failure", [tests[n] for n in own], [verdicts[n] for n in own])
        assert [together[n] for n in own] == alone


def test_score_and_verdict() -> None:
    """Points earned of all points; the verdict of the first test that failed."""
    tests = [GradingTest(id=name, points=points) for name, points in (("1", 1), ("2", 2), ("3", 5))]
    judgements = [
        judged(tests[0], Verdict.ACCEPTED),
        judged(tests[1], Verdict.PARTIAL, 1.5),
        judged(tests[2], Verdict.WRONG_ANSWER),
    ]
    score = score_of(grading(*tests), judgements)
    assert (score.verdict, score.passed, score.total) == (Verdict.PARTIAL, 1, 3)
    assert score.score == 2.5 / 8
    assert score.first is judgements[1]


@given(
    st.lists(
        st.tuples(
            st.floats(0, 1e9), st.sampled_from([*JUDGED, Verdict.SKIPPED]), st.floats(0, 2e9)
        ),
        min_size=1,
    )
)
def test_a_score_is_a_share(items: list[tuple[float, Verdict, float]]) -> None:
    """Whatever a checker gives, no test earns more than it is worth."""
    tests = [GradingTest(id=str(n), points=points) for n, (points, _, _) in enumerate(items)]
    judgements = [
        judged(test, verdict, given) for test, (_, verdict, given) in zip(tests, items, strict=True)
    ]
    score = score_of(grading(*tests), judgements)
    assert 0.0 <= score.score <= 1.0
    assert (score.verdict is Verdict.ACCEPTED) == (score.passed == score.total)
    assert score.verdict is not Verdict.SKIPPED


def test_tests_worth_nothing() -> None:
    """Without any points to earn, the score is whether all passed."""
    test = GradingTest(id="1", points=0)
    assert score_of(grading(test), [judged(test, Verdict.ACCEPTED)]).score == 1.0
    assert score_of(grading(test), [judged(test, Verdict.TIMEOUT)]).score == 0.0


def test_what_did_not_run_is_no_success() -> None:
    """Where all that ran passed and the time was over, that is the verdict."""
    tests = [GradingTest(id="1"), GradingTest(id="2")]
    score = score_of(
        grading(*tests), [judged(tests[0], Verdict.ACCEPTED), skipped(tests[1], "no time left")]
    )
    assert score.verdict is Verdict.TIMEOUT
    assert score.first is not None
    assert score.first.message == "no time left"


def test_output_is_capped() -> None:
    """A judgement has the first bytes of what was written, and says that there was more."""
    outcome = Outcome(verdict=Verdict.OK, stdout=b"x" * 11, stderr=b"y")
    judgement = judgement_of(GradingTest(id="1"), outcome, Ruling(Verdict.ACCEPTED), 10)
    assert (judgement.stdout, judgement.stderr) == (b"x" * 10, b"y")
    assert judgement.output_truncated
