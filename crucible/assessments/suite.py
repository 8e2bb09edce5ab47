"""A suite as clients send it: its schema, and the checks that need no server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from crucible.errors import InputError
from crucible.evaluation.kept_metadata import check_kept_metadata
from crucible.evaluation.limits import LimitsRequest  # noqa: TC001 - msgspec reads the annotations
from crucible.evaluation.request import EvalOptions, EvalRequest
from crucible.evaluation.request_errors import undecodable
from crucible.models import Isolation  # noqa: TC001 - msgspec reads the annotations
from crucible.validation import input_error

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from crucible.evaluation.allowance import Allowance

#: An id is part of Redis keys, URLs and ids of evaluations.
ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z"
#: Cases of one assessment, runs of all of them, and bytes of their programs and tests together.
MAX_CASES, MAX_RUNS, MAX_SUITE_BYTES = 10_000, 50_000, 64 << 20
#: Repetitions of one case.
MAX_REPETITIONS = 100
#: What a case may leave to the suite.
_SHARED = ("environment", "isolation", "limits")

Id = Annotated[str, Meta(pattern=ID_PATTERN)]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
Repetitions = Annotated[int, Meta(ge=1, le=MAX_REPETITIONS)]
Weight = Annotated[float, Meta(ge=0.0, le=1e6)]


class CaseRequest(EvalOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One case: a program, or a program with tests; options are those of ``POST /api/eval``.

    It passes when every repetition of it does: with the verdict ``ok``, or ``accepted`` where it
    has tests.

    Attributes:
        code: source text, not empty.
        language: a name from the language table, or an alias.
        id: distinguishes it from the others in reports; its number where it is left out.
        name: for people.
        weight: its share of the score.
        repetitions: how often it is run; None takes the suite's.
    """

    code: str
    language: str = "python"
    id: Id | None = None
    name: Annotated[str, Meta(max_length=200)] = ""
    weight: Weight = 1.0
    repetitions: Repetitions | None = None


class AssessmentRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /api/v1/assessments``.

    Attributes:
        name: for people.
        cases: 1 to 10,000; none with ``draft``.
        draft: cases follow with ``POST …/cases``, for suites larger than one body.
        assessment_id: the client's own id; the same id again returns the first assessment.
        repetitions: how often each case is run.
        priority: of its evaluations, 0 to 9; the default is that of bulk submissions.
        pass_score: the score from which on it passes; 1 means that every case must pass.
        environment: of cases that name none.
        isolation: of cases that name none.
        limits: of cases that name none.
        metadata: returned as it came.
    """

    name: Name
    cases: list[CaseRequest] = []
    draft: bool = False
    assessment_id: Id | None = None
    repetitions: Repetitions = 1
    priority: Annotated[int, Meta(ge=0, le=9)] = 2
    pass_score: Annotated[float, Meta(ge=0.0, le=1.0)] = 1.0
    environment: str | None = None
    isolation: Isolation | None = None
    limits: LimitsRequest | None = None
    metadata: dict[str, Any] | None = None


class CasesRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /api/v1/assessments/{id}/cases``.

    Attributes:
        at: how many cases came before; the same request again adds nothing.
        cases: further cases.
    """

    at: Annotated[int, Meta(ge=0, lt=MAX_CASES)]
    cases: Annotated[list[CaseRequest], Meta(min_length=1, max_length=MAX_CASES)]


class Case(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A checked case, as it is stored.

    Attributes:
        id: as in ``CaseRequest``.
        name: for people.
        weight: its share of the score.
        repetitions: how often it is run.
        program: what is submitted; its ``eval_id`` and metadata follow with each run.
    """

    id: str
    name: str
    weight: float
    repetitions: int
    program: EvalRequest


_assessment_decoder = msgspec.json.Decoder(AssessmentRequest)
_cases_decoder = msgspec.json.Decoder(CasesRequest)
_option_names = EvalOptions.__struct_fields__


def decode_assessment(body: bytes) -> AssessmentRequest:
    """The body of ``POST /api/v1/assessments``.

    Raises:
        InputError: not JSON, or of the wrong shape; the field is named.
    """
    asked: AssessmentRequest = _decoded(_assessment_decoder, body)
    if not asked.name.strip():
        raise InputError("name", "must not be empty")
    if not asked.cases and not asked.draft:
        raise InputError("cases", "must not be empty: an assessment needs at least one case")
    if asked.metadata is not None:
        check_kept_metadata(asked.metadata)
    return asked


def decode_cases(body: bytes) -> CasesRequest:
    """The body of ``POST /api/v1/assessments/{id}/cases``; raises as ``decode_assessment``."""
    asked: CasesRequest = _decoded(_cases_decoder, body)
    return asked


def _decoded(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise input_error(error, decoder.type) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise undecodable(error, body) from None


def shared_options(asked: AssessmentRequest) -> dict[str, Any]:
    """What cases get that do not say otherwise."""
    given = {name: getattr(asked, name) for name in _SHARED}
    return {name: value for name, value in given.items() if value is not None}


class CaseRules(msgspec.Struct, frozen=True, kw_only=True):
    """What the cases of one assessment have in common.

    Attributes:
        repetitions: of cases that say nothing.
        priority: of every evaluation.
        shared: options of cases that do not give their own.
    """

    repetitions: int
    priority: int
    shared: dict[str, Any]


def checked_case(asked: CaseRequest, number: int, rules: CaseRules, allowed: Allowance) -> Case:
    """A case that can run.

    Args:
        asked: the case.
        number: its position, from 0.
        rules: of its assessment.
        allowed: what its tenant may ask for.

    Raises:
        InputError: it could never run; the field begins with ``cases[number]``.
    """
    options = {name: getattr(asked, name) for name in _option_names}
    for name, value in rules.shared.items():
        if options[name] is None:
            options[name] = value
    program = EvalRequest(
        code=asked.code, language=asked.language, priority=rules.priority, **options
    )
    try:
        program = allowed.admit(program)
        if asked.webhook_url is not None:
            raise InputError("webhook_url", "is of evaluations, not of the cases of a suite")
    except InputError as error:
        raise at_case(number, asked, error) from None
    return Case(
        id=asked.id or str(number),
        name=asked.name,
        weight=asked.weight,
        repetitions=asked.repetitions or rules.repetitions,
        program=program,
    )


def at_case(number: int, asked: CaseRequest, error: InputError) -> InputError:
    """An error of one case, with the place it has in the body."""
    field = f"cases[{number}].{error.field}" if error.field else f"cases[{number}]"
    named = f" (case {number}, {asked.name or asked.id})" if asked.name or asked.id else ""
    return InputError(field, f"{error.detail}{named}")


def check_ids(ids: Sequence[str], first: int = 0, taken: Collection[str] = ()) -> None:
    """Refuse cases that have one id.

    Args:
        ids: of the cases of one request.
        first: number of the first of them.
        taken: ids of earlier cases.

    Raises:
        InputError: naming the second of the two by its place in the request.
    """
    seen: dict[str, int] = {}
    for number, one in enumerate(ids):
        same = seen.setdefault(one, number)
        if one in taken or same != number:
            which = "an earlier case" if one in taken else f"case {first + same}"
            raise InputError(f"cases[{number}].id", f"{one} is the id of {which} already")
