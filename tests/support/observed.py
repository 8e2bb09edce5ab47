"""The observed outcome of a program, in the same form whichever way it was run."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crucible.models import Outcome


@dataclass(frozen=True)
class Observed:
    """The observed outcome of a program."""

    verdict: str
    exit_code: int | None
    signal: int | None
    stdout: bytes
    stderr: bytes
    truncated: bool

    @classmethod
    def from_outcome(cls, outcome: Outcome) -> Observed:
        """From an executor's outcome."""
        return cls(
            verdict=outcome.verdict.value,
            exit_code=outcome.exit_code,
            signal=outcome.signal,
            stdout=outcome.stdout,
            stderr=outcome.stderr,
            truncated=outcome.output_truncated,
        )

    @classmethod
    def from_view(cls, view: dict[str, Any]) -> Observed:
        """From the response of ``GET /api/eval/{eval_id}``, or a task's result."""
        return cls(
            verdict=view["verdict"],
            exit_code=view["exit_code"],
            signal=view["signal"],
            stdout=_text_bytes(view["output"], view.get("output_encoding", "utf-8")),
            stderr=_text_bytes(view["error"], view.get("error_encoding", "utf-8")),
            truncated=view["output_truncated"],
        )


def _text_bytes(text: str, encoding: str) -> bytes:
    return base64.b64decode(text) if encoding == "base64" else text.encode()
