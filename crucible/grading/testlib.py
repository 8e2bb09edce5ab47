"""The exit codes and words by which checkers and interactors judge: the testlib convention. Pure.

``checker input output answer``: exit code 0 accepts, 1 is a wrong answer, 2 a presentation error,
3 a failure of the checker itself, 7 partial, with ``points N`` on standard error. Two further codes
of testlib's own, 4 (dirt after the answer) and 8 (the answer ends early), are presentation errors.
Any other end is a failure of the checker, and no verdict on the program.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from crucible.grading.models import Ruling
from crucible.models import OWN_END, Verdict

if TYPE_CHECKING:
    from crucible.models import Outcome

#: Names of what a checker is given, in the order of its arguments.
INPUT, OUTPUT, ANSWER = "input", "output", "answer"
#: Characters of a checker's words that a message repeats.
_SHOWN = 500
_FAILED = 3
_PARTIAL = 7
_VERDICTS = {
    0: Verdict.ACCEPTED,
    1: Verdict.WRONG_ANSWER,
    2: Verdict.PRESENTATION_ERROR,
    4: Verdict.PRESENTATION_ERROR,
    _PARTIAL: Verdict.PARTIAL,
    8: Verdict.PRESENTATION_ERROR,
}
_POINTS = re.compile(r"\bpoints[ \t]+([-+.\w]+)")
#: A Python checker that raises would exit with 1, which is a wrong answer. This runs it as a
#: script and exits with 3 instead.
PYTHON_MAIN = """\
import os, runpy, sys, traceback
sys.argv = ["{name}", *sys.argv[1:]]
try:
    runpy.run_path("{name}", run_name="__main__")
except Exception:
    traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(3)
"""


def ruling_of(outcome: Outcome, who: str) -> Ruling:
    """What a checker or an interactor that has ended says of a test.

    Args:
        outcome: how it ended.
        who: ``checker`` or ``interactor``, for the message.
    """
    words = outcome.stderr[: 4 * _SHOWN].decode("utf-8", "replace").strip()
    if outcome.verdict not in OWN_END:
        return failure(who, f"{outcome.verdict}, {outcome.message}")
    code = outcome.exit_code
    if code is None:
        return failure(who, outcome.message or "it did not exit")
    if code == _FAILED:
        return failure(who, words[-_SHOWN:] or "it exited with 3")
    verdict = _VERDICTS.get(code)
    if verdict is None:
        return failure(who, f"it exited with {code}, which means nothing here; {words[-_SHOWN:]}")
    points = 0.0
    if code == _PARTIAL:
        points = _points_in(words)
        if not (math.isfinite(points) and points >= 0):
            return failure(who, "it exited with 7 without `points N` on standard error")
    return Ruling(verdict, words[:_SHOWN] or None, points)


def failure(who: str, detail: str) -> Ruling:
    """The ruling where a checker or an interactor failed: the program is not to blame."""
    return Ruling(Verdict.INTERNAL_ERROR, f"the {who} failed: {detail}".rstrip("; "))


def _points_in(words: str) -> float:
    match = _POINTS.search(words)
    try:
        return float(match[1]) if match and "_" not in match[1] else math.nan
    except ValueError:
        return math.nan
