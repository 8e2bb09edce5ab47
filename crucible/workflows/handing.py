"""What a step is given of the outputs of others. Pure."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

import msgspec

from crucible.errors import InputError
from crucible.evaluation.result import bytes_of
from crucible.models import SourceFile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crucible.evaluation.request import EvalRequest
    from crucible.evaluation.result import EvalResult
    from crucible.models import Evaluation
    from crucible.workflows.request import InputRequest, Step

    Ended = Evaluation | EvalResult


def program_of(step: Step, ended: Mapping[str, Ended]) -> EvalRequest:
    """The program of a step with all it is handed.

    Args:
        step: the step.
        ended: evaluations of the steps it waits for, by their ids.

    Raises:
        InputError: an output cannot be handed on so.
    """
    program = step.program
    for handed in step.inputs:
        content = b"".join(_content(ended[source], handed) for source in handed.sources)
        program = _with(program, handed, content)
    return program


def _content(evaluation: Ended, handed: InputRequest) -> bytes:
    if evaluation.output_truncated:
        raise InputError("inputs", f"the output of {evaluation.eval_id} is not complete")
    if handed.stream == "error":
        return bytes_of(evaluation.error, evaluation.error_encoding)
    return bytes_of(evaluation.output, evaluation.output_encoding)


def _with(program: EvalRequest, handed: InputRequest, content: bytes) -> EvalRequest:
    replace = msgspec.structs.replace
    text = _text(content)
    if handed.as_ == "stdin":
        if text is not None:
            return replace(program, stdin=text)
        return replace(program, stdin=base64.b64encode(content).decode(), stdin_encoding="base64")
    if handed.as_ == "file":
        assert handed.name is not None
        file = SourceFile(
            name=handed.name,
            content=base64.b64encode(content).decode() if text is None else text,
            encoding="base64" if text is None else "utf-8",
        )
        return replace(program, files=[*program.files, file])
    if text is None:
        raise InputError("inputs", f"{handed.as_} takes text, and the output is not UTF-8")
    if handed.as_ == "arg":
        return replace(program, args=[*program.args, text.rstrip("\n")])
    assert handed.name is not None
    return replace(program, env={**program.env, handed.name: text.rstrip("\n")})


def _text(content: bytes) -> str | None:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def fingerprint(request: msgspec.Struct) -> bytes:
    """Two requests under one id must agree in it."""
    return hashlib.blake2b(msgspec.msgpack.encode(request), digest_size=16).digest()
