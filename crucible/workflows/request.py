"""A workflow as clients send it, and the steps made of it, checked. Pure."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from crucible.errors import InputError
from crucible.evaluation.kept_metadata import check_kept_metadata
from crucible.evaluation.request import EvalOptions, EvalRequest
from crucible.evaluation.request_errors import undecodable
from crucible.validation import input_error, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crucible.evaluation.allowance import Allowance

ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z"
MAX_STEPS = 200

Id = Annotated[str, Meta(pattern=ID_PATTERN)]
As = Literal["stdin", "file", "arg", "env"]


class InputRequest(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    rename={"from_": "from", "as_": "as"},
):
    """An output that is handed on.

    Attributes:
        from_: the step whose output it is, or several, one after the other.
        as_: ``stdin``, ``file`` or ``env`` (both with a ``name``), or ``arg``: an argument more.
        name: of the file or variable.
        stream: which output.
    """

    from_: str | list[str]
    as_: As = "stdin"
    name: str | None = None
    stream: Literal["output", "error"] = "output"

    @property
    def sources(self) -> list[str]:
        """The steps whose outputs it is."""
        return [self.from_] if isinstance(self.from_, str) else self.from_


class StepRequest(EvalOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One step: a program; options are those of ``POST /api/eval``.

    Attributes:
        code: source text, not empty.
        language: a name from the language table, or an alias.
        id: names it for other steps and in results; its number where it is left out.
        priority: 0 to 9, 9 is the most urgent.
        inputs: outputs of other steps that it gets; it runs once all of those have succeeded.
    """

    code: str
    language: str = "python"
    id: Id | None = None
    priority: Annotated[int, Meta(ge=0, le=9)] = 5
    inputs: list[InputRequest] | None = None


class ChordRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Steps beside one another, and one more with the outputs of all.

    Attributes:
        header: steps that run at once.
        body: runs when all have succeeded; it gets their outputs on standard input, in order, where
            it names no inputs.
    """

    header: list[StepRequest]
    body: StepRequest


class WorkflowRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /api/v1/workflows``: one of ``chain``, ``group``, ``chord``, ``steps``.

    Attributes:
        chain: steps one after the other; each gets the output of the one before on standard input,
            where it names no inputs.
        group: steps beside one another.
        chord: steps beside one another, and one more with the outputs of all.
        steps: steps in any order that their inputs allow.
        name: for people.
        workflow_id: the client's own id; the same id again returns the first workflow.
        metadata: returned as it came.
    """

    chain: list[StepRequest] | None = None
    group: list[StepRequest] | None = None
    chord: ChordRequest | None = None
    steps: list[StepRequest] | None = None
    name: Annotated[str, Meta(max_length=200)] = ""
    workflow_id: Id | None = None
    metadata: dict[str, Any] | None = None


class Step(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A checked step, as it is stored.

    Attributes:
        id: names it.
        program: what is submitted, but for what it is handed.
        inputs: what it is handed.
        after: the steps it waits for; of a chain also where it is handed nothing.
    """

    id: str
    program: EvalRequest
    inputs: list[InputRequest] = []
    after: list[str] = []


class _Placed(msgspec.Struct, frozen=True):
    """A step of the request with its place there, and what it gets if it names no inputs."""

    place: str
    step: StepRequest
    usual: list[str] = []


_decoder = msgspec.json.Decoder(WorkflowRequest)
_FORMS = ("chain", "group", "chord", "steps")
_option_names = EvalOptions.__struct_fields__


def decode_workflow(body: bytes) -> WorkflowRequest:
    """The body of ``POST /api/v1/workflows``.

    Raises:
        InputError: not JSON, or of the wrong shape; the field is named.
    """
    try:
        asked = _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise input_error(error, WorkflowRequest) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise undecodable(error, body) from None
    given = [name for name in _FORMS if getattr(asked, name) is not None]
    if len(given) != 1:
        raise InputError(given[1] if given else "steps", f"give one of {', '.join(_FORMS)}")
    if asked.metadata is not None:
        check_kept_metadata(asked.metadata)
    return asked


def checked_steps(asked: WorkflowRequest, allowed: Allowance) -> list[Step]:
    """The steps of a workflow that can run.

    Raises:
        InputError: one could never run, two have one id, one waits for itself or for a step that
            is not there; its place is named.
    """
    placed = list(_placed(asked))
    if not placed:
        field = next(name for name in _FORMS if getattr(asked, name) is not None)
        raise InputError(field, "must not be empty")
    if len(placed) > MAX_STEPS:
        raise InputError(_form(placed[0].place), f"must not have more than {MAX_STEPS} steps")
    ids: dict[str, str] = {}
    steps = []
    for number, one in enumerate(placed):
        step = _checked(one, number, allowed)
        if step.id in ids:
            raise InputError(f"{one.place}.id", f"{step.id} is the id of {ids[step.id]} already")
        ids[step.id] = one.place
        steps.append(step)
    for step, one in zip(steps, placed, strict=True):
        _check_sources(step, one, ids)
    _check_cycles(steps, ids)
    return steps


def _form(place: str) -> str:
    return place.partition("[")[0].partition(".")[0]


def _placed(asked: WorkflowRequest) -> Iterator[_Placed]:
    """Every step with its place."""
    before: list[str] = []
    for number, step in enumerate(asked.chain or ()):
        yield _Placed(f"chain[{number}]", step, before)
        before = [step.id or str(number)]
    for name in ("group", "steps"):
        for number, step in enumerate(getattr(asked, name) or ()):
            yield _Placed(f"{name}[{number}]", step)
    if asked.chord is not None:
        header = asked.chord.header
        if not header:
            raise InputError("chord.header", "must not be empty")
        for number, step in enumerate(header):
            yield _Placed(f"chord.header[{number}]", step)
        ids = [step.id or str(number) for number, step in enumerate(header)]
        yield _Placed("chord.body", asked.chord.body, ids)


def _checked(one: _Placed, number: int, allowed: Allowance) -> Step:
    asked = one.step
    options = {name: getattr(asked, name) for name in _option_names}
    program = EvalRequest(
        code=asked.code, language=asked.language, priority=asked.priority, **options
    )
    try:
        program = allowed.admit(program)
        if asked.webhook_url is not None:
            raise InputError("webhook_url", "is of evaluations, not of steps")
    except InputError as error:
        raise InputError(f"{one.place}.{error.field}", error.detail) from None
    inputs = asked.inputs
    if inputs is None:
        # What stands on standard input already is not taken away.
        inputs = [InputRequest(from_=one.usual)] if one.usual and not asked.stdin else []
    sources = [source for handed in inputs for source in handed.sources]
    after = list(dict.fromkeys([*sources, *one.usual]))
    return Step(id=asked.id or str(number), program=program, inputs=inputs, after=after)


def _check_sources(step: Step, one: _Placed, ids: dict[str, str]) -> None:
    on_stdin = 1 if step.program.stdin else 0
    for number, handed in enumerate(step.inputs):
        place = f"{one.place}.inputs[{number}]"
        if not handed.sources:
            raise InputError(f"{place}.from", "must name a step")
        for source in handed.sources:
            if source == step.id:
                raise InputError(f"{place}.from", f"step {quoted(step.id)} waits for itself")
            if source not in ids:
                raise InputError(f"{place}.from", f"there is no step {quoted(source)}")
        if (handed.name is None) != (handed.as_ in ("stdin", "arg")):
            needs = "needs a name" if handed.name is None else "has no name"
            raise InputError(f"{place}.name", f"{handed.as_} {needs}")
        on_stdin += handed.as_ == "stdin"
        if on_stdin > 1:
            raise InputError(f"{place}.as", "standard input is given already")


def _check_cycles(steps: Sequence[Step], ids: dict[str, str]) -> None:
    try:
        TopologicalSorter({step.id: step.after for step in steps}).prepare()
    except CycleError as error:
        cycle: list[str] = error.args[1]
        # graphlib lists it from what is waited for to who waits; people read it the other way.
        way = " → ".join(reversed(cycle))
        raise InputError(
            f"{ids[cycle[-1]]}.inputs", f"step {quoted(cycle[-1])} waits for itself: {way}"
        ) from None
