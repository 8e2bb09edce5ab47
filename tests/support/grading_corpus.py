"""The problems of ``tests/data/grading``: tests made from a seed, and what solutions come to."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crucible.models import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROBLEMS = Path(__file__).parents[1] / "data" / "grading"
LANGUAGES = {".py": "python", ".js": "javascript", ".c": "c", ".cpp": "cpp"}
SEED, SMALL, LARGE = 15, 8, 12
#: Inputs up to this are small: ``partial`` is right for them, ``slow`` and ``hungry`` too.
SMALL_UP_TO = 20
LIMITS = {"wall_time_s": 20, "cpu_time_s": 0.8, "memory_mb": 128}
V = Verdict


def _numbers(size: int, source: random.Random) -> tuple[str, list[int]]:
    numbers = [source.randint(-1000, 1000) for _ in range(size)]
    return f"{size}\n{' '.join(map(str, numbers))}\n", numbers


def _total(size: int, source: random.Random) -> tuple[str, str]:
    given, numbers = _numbers(size, source)
    return given, f"{sum(numbers)}\n"


def _order(size: int, source: random.Random) -> tuple[str, str]:
    given, numbers = _numbers(size, source)
    return given, f"{' '.join(map(str, sorted(numbers)))}\n"


def _mean(size: int, source: random.Random) -> tuple[str, str]:
    given, numbers = _numbers(size, source)
    return given, f"{sum(numbers) / size!r}\n"


def _divisors(size: int, _: random.Random) -> tuple[str, str]:
    return f"{size}\n", "".join(f"{n}\n" for n in range(1, size + 1) if size % n == 0)


def _alone(size: int, _: random.Random) -> tuple[str, str]:
    return f"{size}\n", ""


@dataclass(frozen=True)
class Problem:
    """One problem.

    Attributes:
        name: its folder.
        make: input and answer of a size.
        judged: the fields of a request that say how outputs are judged.
        presentation: what a solution comes to whose whitespace, or form, is not as asked.
        large: sizes of large inputs.
    """

    name: str
    make: Callable[[int, random.Random], tuple[str, str]]
    judged: dict[str, Any]
    presentation: Verdict = V.ACCEPTED
    large: tuple[int, int] = (21, 60)

    def tests(self) -> list[dict[str, Any]]:
        """Its tests, as a request has them."""
        source = random.Random(f"{SEED}-{self.name}")
        sizes = [source.randint(2, SMALL_UP_TO) for _ in range(SMALL)]
        sizes += [source.randint(*self.large) for _ in range(LARGE)]
        made = [self.make(size, source) for size in sizes]
        return [
            {
                "id": f"{number:02}",
                "stdin": given,
                "expected": answer,
                "group": "small" if number <= SMALL else "large",
                "points": 1 if number <= SMALL else 2,
            }
            for number, (given, answer) in enumerate(made, start=1)
        ]


def _grader(path: str) -> dict[str, str]:
    return {"language": "python", "code": (PROBLEMS / path).read_text(), "protocol": "testlib"}


def problems() -> list[Problem]:
    """All problems."""
    return [
        Problem("total", _total, {"compare": {"mode": "tokens"}}),
        Problem("order", _order, {"compare": {"mode": "exact"}}, V.PRESENTATION_ERROR),
        Problem("mean", _mean, {"compare": {"mode": "float", "abs": 1e-6}}),
        Problem("divisors", _divisors, {"compare": {"mode": "sorted"}}, large=(21, 5000)),
        Problem(
            "pair",
            _alone,
            {"compare": {"mode": "checker"}, "checker": _grader("pair/checker.py")},
            large=(21, 10**6),
        ),
        Problem(
            "guess",
            _alone,
            {"interactor": _grader("guess/interactor.py")},
            V.PRESENTATION_ERROR,
            large=(501, 999),
        ),
    ]


@dataclass(frozen=True)
class Solution:
    """One solution of a problem.

    Attributes:
        problem: what it is a solution of.
        path: its source; the name says what is wrong with it.
    """

    problem: Problem
    path: Path

    @property
    def name(self) -> str:
        """Problem and file."""
        return f"{self.problem.name}/{self.path.name}"

    @property
    def costly(self) -> bool:
        """Whether each test takes a second of processor time, or much memory: one is enough."""
        return self.path.stem in ("slow", "hungry", "idle") or self.path.name == "wrong.js"

    def request(self, isolation: str) -> dict[str, Any]:
        """The body of ``POST /api/eval``."""
        limits = {"wall_time_s": 1} if self.path.stem == "idle" else {}
        return {
            "code": self.path.read_text(),
            "language": LANGUAGES[self.path.suffix],
            "isolation": isolation,
            "tests": self.problem.tests(),
            "limits": LIMITS | limits,
            "stop": "first_failure" if self.costly else "never",
            **self.problem.judged,
        }

    def expected(self) -> tuple[list[Verdict], float]:
        """The verdict of each test, and the score."""
        small, large, share = self._ends()
        verdicts = [small] * SMALL + [large] * LARGE
        if self.costly:
            first = next(n for n, verdict in enumerate(verdicts) if verdict is not V.ACCEPTED)
            verdicts[first + 1 :] = [V.SKIPPED] * (len(verdicts) - first - 1)
        return verdicts, share

    def _ends(self) -> tuple[Verdict, Verdict, float]:
        """What small and large tests come to, and the share of the points."""
        kind, small = self.path.stem, SMALL / (SMALL + 2 * LARGE)
        talks = self.problem.name == "guess"
        if kind == "partial" and self.problem.name == "pair":
            return V.PARTIAL, V.PARTIAL, 0.5 * (SMALL + LARGE) / (SMALL + 2 * LARGE)
        if kind == "presentation":
            verdict = self.problem.presentation
            return verdict, verdict, float(verdict is V.ACCEPTED)
        if kind in ("slow", "hungry"):
            verdict = V.CPU_LIMIT if kind == "slow" else V.MEMORY_LIMIT
            return (verdict, verdict, 0.0) if talks else (V.ACCEPTED, verdict, small)
        return {
            "right": (V.ACCEPTED, V.ACCEPTED, 1.0),
            "wrong": (V.WRONG_ANSWER, V.WRONG_ANSWER, 0.0),
            "partial": (V.ACCEPTED, V.WRONG_ANSWER, small),
            "idle": (V.TIMEOUT, V.TIMEOUT, 0.0),
        }[kind]


def solutions() -> Iterator[Solution]:
    """Every solution of every problem."""
    for problem in problems():
        for path in sorted((PROBLEMS / problem.name).iterdir()):
            if path.stem not in ("checker", "interactor"):
                yield Solution(problem, path)
