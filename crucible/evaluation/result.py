"""What ``tasks.evaluate_code`` returns: a JSON object any Celery client can read."""

from __future__ import annotations

import base64
import codecs
import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from crucible.models import (
    OWN_END,
    CompileReport,
    CompileView,
    Isolation,
    Outcome,
    Status,
    TestResult,
    Usage,
    Verdict,
    status_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Control characters that JSON has no short form for.
_ESCAPED = bytes(set(range(0x20)) - set(b"\b\t\n\f\r"))


class RunTiming(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds a worker spent.

    Attributes:
        sandbox: waiting for and preparing a sandbox.
        run: from handing the program over to its end.
    """

    sandbox: int = 0
    run: int = 0


class EvalResult(msgspec.Struct, frozen=True, kw_only=True):
    """How one evaluation ended. Field meanings as in ``models.Evaluation``."""

    eval_id: str
    status: Status
    verdict: Verdict
    output: str = ""
    error: str = ""
    exit_code: int | None = None
    signal: int | None = None
    message: str | None = None
    output_truncated: bool = False
    usage: Usage = Usage()
    timing_ms: RunTiming = RunTiming()
    isolation: Isolation = "container"
    retry_count: int = 0
    worker: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    output_encoding: Literal["utf-8", "base64"] = "utf-8"
    error_encoding: Literal["utf-8", "base64"] = "utf-8"
    files: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    files_omitted: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    compile: CompileView | msgspec.UnsetType = msgspec.UNSET
    tests: list[TestResult] | msgspec.UnsetType = msgspec.UNSET
    passed: int | msgspec.UnsetType = msgspec.UNSET
    total: int | msgspec.UnsetType = msgspec.UNSET
    score: float | msgspec.UnsetType = msgspec.UNSET
    output_object: str | msgspec.UnsetType = msgspec.UNSET
    error_object: str | msgspec.UnsetType = msgspec.UNSET


def plain(ended: EvalResult) -> dict[str, Any]:
    """A result as the JSON types every Celery serializer carries."""
    converted: dict[str, Any] = msgspec.to_builtins(ended)
    return converted


def result_of(
    eval_id: str,
    outcome: Outcome,
    *,
    worker: str,
    retry_count: int,
    started_at: str,
    finished_at: str,
    objects: Mapping[str, str] = MappingProxyType({}),
) -> EvalResult:
    """An executor's outcome as the task's result.

    Args:
        eval_id: the scoped id.
        outcome: of its program.
        worker: node name of the worker.
        retry_count: how often it was tried before.
        started_at: when, as text.
        finished_at: when, as text.
        objects: names of whole outputs by stream, where the outcome has their beginning only.
    """
    # Not the program has ended it there, but the output cap or whatever stopped the program.
    cut = bool(objects) or outcome.output_truncated or outcome.verdict not in OWN_END
    shown = whole_text if cut else bytes
    output, output_encoding = text_of(shown(outcome.stdout))
    error, error_encoding = text_of(shown(outcome.stderr))
    return EvalResult(
        eval_id=eval_id,
        status=status_of(outcome.verdict),
        verdict=outcome.verdict,
        output=output,
        error=error,
        exit_code=outcome.exit_code,
        signal=outcome.signal,
        message=outcome.message,
        output_truncated=outcome.output_truncated,
        isolation=outcome.isolation,
        usage=outcome.usage,
        timing_ms=RunTiming(sandbox=whole_ms(outcome.sandbox_s), run=whole_ms(outcome.run_s)),
        retry_count=retry_count,
        worker=worker,
        started_at=started_at,
        finished_at=finished_at,
        output_encoding=output_encoding,
        error_encoding=error_encoding,
        files={name: file_of(content) for name, content in outcome.files.items()}
        if outcome.files
        else msgspec.UNSET,
        files_omitted=outcome.files_omitted or msgspec.UNSET,
        compile=compile_view(outcome.compile) if outcome.compile else msgspec.UNSET,
        output_object=objects.get("stdout", msgspec.UNSET),
        error_object=objects.get("stderr", msgspec.UNSET),
    )


def compile_view(report: CompileReport) -> CompileView:
    """What came of compiling, as a client sees it."""
    error, encoding = text_of(whole_text(report.error))
    return CompileView(
        exit_code=report.exit_code,
        error=error,
        error_encoding=encoding,
        usage=report.usage,
        cached=report.cached,
    )


def whole_text(data: bytes) -> bytes:
    """Output that was cut, without the part of a character at its end; other bytes as they are.

    Up to three bytes less, so that text stays text.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        decoder.decode(data)
    except UnicodeDecodeError:
        return data
    return data[: len(data) - len(decoder.getstate()[0])]


def text_of(data: bytes) -> tuple[str, Literal["utf-8", "base64"]]:
    """Bytes as text where they are UTF-8, else as base64, and which of both it is.

    No byte is ever replaced: what a program printed arrives intact either way.
    """
    try:
        return data.decode(), "utf-8"
    except UnicodeDecodeError:
        return base64.b64encode(data).decode(), "base64"


def bytes_of(text: str, encoding: str) -> bytes:
    """The inverse of ``text_of``."""
    return base64.b64decode(text) if encoding == "base64" else text.encode()


def file_of(content: bytes) -> dict[str, str]:
    """One returned file as JSON: text where it is, and no longer than as base64.

    JSON writes control characters in six bytes: 16 MiB of zeros would be an answer of 96 MiB.
    """
    escaped = len(content) - len(content.translate(None, _ESCAPED))
    if escaped * 15 > len(content):
        return {"content": base64.b64encode(content).decode(), "encoding": "base64"}
    text, encoding = text_of(content)
    return {"content": text, "encoding": encoding}


def whole_ms(seconds: float) -> int:
    """Seconds as whole milliseconds, never below zero."""
    return max(0, math.floor(seconds * 1000))
