"""Judge0's ``/submissions``, ``/languages``, ``/statuses`` and ``/about``."""

from __future__ import annotations

import base64
import binascii
import hashlib
import shlex
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from crucible.compat.context import CONTEXT
from crucible.compat.evaluating import limits_within, request_of
from crucible.compat.judge0_statuses import LANGUAGES, STATUSES, status_of
from crucible.errors import BrokerError, InputError, LegacyError, NotFound
from crucible.evaluation.result import bytes_of
from crucible.http.body import read_body

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crucible.models import Evaluation

#: Where a submission's own facts are kept with its evaluation.
METADATA = "judge0"
BATCH = 20
#: Judge0's own limits where a submission names none: seconds, kilobytes, processes.
CPU_S, WALL_S, MEMORY_KB, PIDS = 5, 10, 128_000, 60
#: Of the API that is spoken here.
VERSION = "1.13.1"
#: Seconds that ``wait=true`` waits; Judge0's own limit of wall time.
WAIT_S = 20.0
FIELDS = ("stdout", "time", "memory", "stderr", "token", "compile_output", "message", "status")


class RefusedSubmission(Exception):  # noqa: N818 - an answer
    """A 422: texts by field."""

    def __init__(self, errors: Mapping[str, list[str]]) -> None:
        super().__init__(errors)
        self.errors = errors


class Submission(msgspec.Struct, kw_only=True):
    """A submission; limits in seconds and kilobytes, None for Judge0's own default."""

    source_code: str | None = None
    language_id: int | None = None
    stdin: str | None = None
    expected_output: str | None = None
    cpu_time_limit: float | None = None
    cpu_extra_time: float | None = None
    wall_time_limit: float | None = None
    memory_limit: float | None = None
    max_processes_and_or_threads: int | None = None
    command_line_arguments: str | None = None
    callback_url: str | None = None
    additional_files: str | None = None


class SubmissionBatch(msgspec.Struct, kw_only=True):
    """The body of ``/submissions/batch``."""

    submissions: list[Submission] = []


async def submit(request: web.Request) -> web.Response:
    """``POST /submissions``."""
    try:
        asked = msgspec.json.decode(await read_body(request), type=Submission)
        if request.query.get("wait") == "true":
            found = await _run(request, asked)
            return _shown(request, found, status=201)
        return web.json_response({"token": await _queue(request, asked)}, status=201)
    except msgspec.DecodeError as error:
        return web.json_response({"error": str(error)}, status=400)
    except RefusedSubmission as refused:
        return web.json_response(refused.errors, status=422)
    except (BrokerError, LegacyError) as error:
        return overloaded(error)


async def show(request: web.Request) -> web.Response:
    """``GET /submissions/{token}``."""
    context = request.app[CONTEXT]
    try:
        found = await context.service.look_up(
            context.caller_of(request), request.match_info["token"]
        )
    except NotFound:
        return web.json_response({"error": "not found"}, status=404)
    return _shown(request, found)


async def submit_batch(request: web.Request) -> web.Response:
    """``POST /submissions/batch``."""
    try:
        body = msgspec.json.decode(await read_body(request), type=SubmissionBatch)
    except msgspec.DecodeError as error:
        return web.json_response({"error": str(error)}, status=400)
    submissions = body.submissions
    if not 0 < len(submissions) <= BATCH:
        text = f"number of submissions in a batch should be between 1 and {BATCH}"
        return web.json_response({"error": text}, status=400)
    items: list[dict[str, Any]] = []
    for asked in submissions:
        try:
            items.append({"token": await _queue(request, asked)})
        except RefusedSubmission as refused:
            items.append(dict(refused.errors))
        except (BrokerError, LegacyError):
            items.append({"error": "queue is full"})
    good = any("token" in item for item in items)
    return web.json_response(items, status=201 if good else 422)


async def show_batch(request: web.Request) -> web.Response:
    """``GET /submissions/batch?tokens=a,b``."""
    context = request.app[CONTEXT]
    caller = context.caller_of(request)
    shown: list[dict[str, Any] | None] = []
    tokens = [token for token in request.query.get("tokens", "").split(",") if token]
    if not 0 < len(tokens) <= BATCH:
        text = f"number of submissions in a batch should be between 1 and {BATCH}"
        return web.json_response({"error": text}, status=400)
    for token in tokens:
        try:
            shown.append(_result(request, await context.service.look_up(caller, token)))
        except NotFound:
            shown.append(None)
        except UnicodeDecodeError:
            return _needs_base64()
    return web.json_response({"submissions": shown})


async def languages(request: web.Request) -> web.Response:
    """``GET /languages``."""
    return web.json_response(
        [{"id": one["id"], "name": one["name"]} for one in await _all(request)]
    )


async def language(request: web.Request) -> web.Response:
    """``GET /languages/{id}``."""
    for one in await _all(request):
        if str(one["id"]) == request.match_info["id"]:
            return web.json_response(one)
    return web.json_response({"error": "not found"}, status=404)


async def statuses(request: web.Request) -> web.Response:
    """``GET /statuses``."""
    return web.json_response(
        [{"id": number, "description": text} for number, text in STATUSES.items()]
    )


async def about(request: web.Request) -> web.Response:
    """``GET /about``."""
    return web.json_response(
        {"version": "1.13.1", "homepage": "", "source_code": "", "maintainer": ""}
    )


async def config_info(request: web.Request) -> web.Response:
    """``GET /config_info``."""
    most = request.app[CONTEXT].ceilings_of(request)
    return web.json_response(
        {
            "maintenance_mode": False,
            "enable_wait_result": True,
            "enable_compiler_options": False,
            "allowed_languages_for_compile_options": [],
            "enable_command_line_arguments": True,
            "enable_submission_delete": False,
            "enable_callbacks": False,
            "callbacks_max_tries": 0,
            "callbacks_timeout": 0,
            "enable_additional_files": False,
            "max_extract_size": 0,
            "enable_batched_submissions": True,
            "max_submission_batch_size": BATCH,
            "max_queue_size": 0,
            "submission_cache_duration": 0,
            "use_docs_as_homepage": False,
            "enable_network": False,
            "allow_enable_network": False,
            "cpu_time_limit": CPU_S,
            "cpu_extra_time": 0,
            "wall_time_limit": WALL_S,
            "memory_limit": MEMORY_KB,
            "stack_limit": MEMORY_KB,
            "max_processes_and_or_threads": PIDS,
            "enable_per_process_and_thread_time_limit": False,
            "enable_per_process_and_thread_memory_limit": False,
            "allow_enable_per_process_and_thread_time_limit": False,
            "allow_enable_per_process_and_thread_memory_limit": False,
            "max_file_size": most.disk_mb * 1024,
            "number_of_runs": 1,
            "redirect_stderr_to_stdout": False,
            "max_cpu_time_limit": most.cpu_time_s,
            "max_cpu_extra_time": 0,
            "max_wall_time_limit": most.wall_time_s,
            "max_memory_limit": most.memory_mb * 1024,
            "max_stack_limit": most.memory_mb * 1024,
            "max_max_processes_and_or_threads": most.pids,
            "max_max_file_size": most.disk_mb * 1024,
            "max_number_of_runs": 1,
        }
    )


async def _all(request: web.Request) -> list[dict[str, Any]]:
    context = request.app[CONTEXT]
    served, versions = context.served.languages(), await context.versions()
    return [
        {
            "id": number,
            "name": f"{one.name} ({versions.get(one.ours) or 'unknown'})",
            "is_archived": False,
            "source_file": served[one.ours].file_name,
            "compile_cmd": " ".join(served[one.ours].compile or ()) or None,
            "run_cmd": " ".join(served[one.ours].run),
        }
        for number, one in LANGUAGES.items()
        if one.ours in served
    ]


async def _queue(request: web.Request, asked: Submission) -> str:
    context = request.app[CONTEXT]
    fields = _fields(request, asked)
    try:
        submitted = await context.service.submit(context.caller_of(request), request_of(fields))
    except InputError as error:
        raise _refused(error) from None
    return submitted.eval_id


async def _run(request: web.Request, asked: Submission) -> Evaluation:
    context = request.app[CONTEXT]
    caller, fields = context.caller_of(request), _fields(request, asked)
    try:
        submitted, ended = await context.service.submit_and_wait(
            caller, request_of(fields), None, WAIT_S
        )
    except InputError as error:
        raise _refused(error) from None
    return ended or await context.service.look_up(caller, submitted.eval_id)


def _refused(error: InputError) -> RefusedSubmission:
    names = {"code": "source_code", "language": "language_id", "args": "command_line_arguments"}
    field = error.field.split(".")[0] or "base"
    return RefusedSubmission({names.get(field, field): [error.detail]})


def _fields(request: web.Request, asked: Submission) -> dict[str, Any]:
    """The fields of ``POST /api/eval``.

    Raises:
        RefusedSubmission: a field is missing or unknown.
    """
    errors: dict[str, list[str]] = {}
    if not asked.source_code:
        errors["source_code"] = ["can't be blank"]
    if asked.language_id is None:
        errors["language_id"] = ["can't be blank"]
    elif asked.language_id not in LANGUAGES:
        errors["language_id"] = [f"language with id {asked.language_id} doesn't exist"]
    for name in ("callback_url", "additional_files"):
        if getattr(asked, name):
            errors[name] = ["is not supported here"]
    if errors:
        raise RefusedSubmission(errors)
    ceilings = request.app[CONTEXT].ceilings_of(request)
    limits = limits_within(
        ceilings,
        cpu_time_s=CPU_S if asked.cpu_time_limit is None else asked.cpu_time_limit,
        wall_time_s=WALL_S if asked.wall_time_limit is None else asked.wall_time_limit,
        memory_mb=(asked.memory_limit or MEMORY_KB) / 1024,
        pids=asked.max_processes_and_or_threads or PIDS,
    )
    code = _text(request, "source_code", asked.source_code or "")
    expected = asked.expected_output
    kept: dict[str, Any] = {"language_id": asked.language_id}
    if expected is not None:
        kept["expected"] = _digest(_bytes(request, "expected_output", expected))
    return {
        "code": code,
        "language": LANGUAGES[asked.language_id or 0].ours,
        "stdin": base64.b64encode(_bytes(request, "stdin", asked.stdin or "")).decode(),
        "stdin_encoding": "base64",
        "args": _arguments(asked.command_line_arguments or ""),
        "limits": msgspec.to_builtins(limits),
        "metadata": {METADATA: kept},
    }


def _arguments(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as error:
        raise RefusedSubmission({"command_line_arguments": [f"cannot be split: {error}"]}) from None


def _in_base64(request: web.Request) -> bool:
    return request.query.get("base64_encoded") == "true"


def _bytes(request: web.Request, field: str, text: str) -> bytes:
    if not _in_base64(request):
        return text.encode()
    try:
        return base64.b64decode(text)
    except (binascii.Error, ValueError):
        raise RefusedSubmission({field: ["is not base64"]}) from None


def _text(request: web.Request, field: str, text: str) -> str:
    try:
        return _bytes(request, field, text).decode()
    except UnicodeDecodeError:
        raise RefusedSubmission({field: ["is not UTF-8"]}) from None


def _digest(output: bytes) -> str:
    """What is compared of an output: all but white space at its end."""
    return hashlib.sha256(output.rstrip()).hexdigest()


def _shown(request: web.Request, found: Evaluation, status: int = 200) -> web.Response:
    try:
        return web.json_response(_result(request, found), status=status)
    except UnicodeDecodeError:
        return _needs_base64()


def _needs_base64() -> web.Response:
    text = (
        "some attributes for this submission cannot be converted to UTF-8, "
        "use base64_encoded=true query parameter"
    )
    return web.json_response({"error": text}, status=400)


def _result(request: web.Request, found: Evaluation) -> dict[str, Any]:
    """A submission as Judge0 shows it.

    Raises:
        UnicodeDecodeError: a part is no text, and base64 was not asked for.
    """
    kept = found.metadata.get(METADATA) if isinstance(found.metadata, dict) else None
    kept = kept if isinstance(kept, dict) else {}
    stdout = bytes_of(found.output, found.output_encoding)
    expected = kept.get("expected")
    number = status_of(found, as_expected=expected is None or expected == _digest(stdout))
    compiled = found.compile if isinstance(found.compile, msgspec.Struct) else None
    said = bytes_of(compiled.error, compiled.error_encoding) if compiled else b""
    failed = number == 6
    usage = found.usage
    everything: dict[str, Any] = {
        "stdout": _part(request, stdout),
        "time": None if usage is None else f"{usage.cpu_time_ms / 1000:.3f}",
        "wall_time": None if usage is None else f"{usage.wall_time_ms / 1000:.3f}",
        "memory": None if usage is None else usage.memory_peak_kb,
        "stderr": _part(request, b"" if failed else bytes_of(found.error, found.error_encoding)),
        "token": found.eval_id,
        "compile_output": _part(request, said),
        "message": _part(request, (found.message or "").encode()),
        "status": {"id": number, "description": STATUSES[number]},
        "status_id": number,
        "language_id": kept.get("language_id"),
        "language": _named(kept.get("language_id")),
        "exit_code": found.exit_code,
        "exit_signal": found.signal,
        "created_at": found.created_at,
        "finished_at": found.finished_at,
    }
    wanted = request.query.get("fields")
    names = FIELDS if not wanted else tuple(wanted.split(","))
    if wanted == "*":
        return everything
    return {name: everything.get(name) for name in names}


def _named(number: Any) -> dict[str, Any] | None:
    known = LANGUAGES.get(number) if isinstance(number, int) else None
    return None if known is None else {"id": number, "name": known.name}


def _part(request: web.Request, content: bytes) -> str | None:
    if not content:
        return None
    return base64.b64encode(content).decode() if _in_base64(request) else content.decode()


def overloaded(_: Exception) -> web.Response:
    """The answer while programs cannot be taken."""
    return web.json_response({"error": "queue is full"}, status=503)


ROUTES = (
    web.post("/submissions", submit),
    web.post("/submissions/batch", submit_batch),
    web.get("/submissions/batch", show_batch),
    web.get("/submissions/{token}", show),
    web.get("/languages", languages),
    web.get("/languages/{id}", language),
    web.get("/statuses", statuses),
    web.get("/about", about),
    web.get("/config_info", config_info),
)
