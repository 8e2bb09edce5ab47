"""A client's request: its schema and checks, and the task arguments and program made of it."""

from __future__ import annotations

import hashlib
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from crucible.errors import InputError
from crucible.evaluation.grading_request import (
    CompareRequest,
    GraderRequest,
    TestRequest,
    check_grading,
)
from crucible.evaluation.limits import LimitsRequest, checked_limits
from crucible.evaluation.record import public_id, tenant_of
from crucible.evaluation.request_errors import undecodable, with_key
from crucible.executor.admission import (
    COMPILE_LIMITS,
    MAX_CODE_BYTES,
    check_arguments,
    check_code,
    check_compile_memory,
    check_env,
    check_environment,
    check_files,
    check_memory,
    check_output_files,
    check_stdin,
    compile_defaults,
    from_base64,
)
from crucible.grading.models import Stop  # noqa: TC001 - msgspec reads the annotations
from crucible.models import ISOLATIONS, Isolation, Program, SourceFile
from crucible.validation import input_error

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from crucible.environments import Environment
    from crucible.executor.languages import Language
    from crucible.executor.served import ServedEnvironments
    from crucible.grading.models import Grading
    from crucible.models import Limits

#: An id is part of Redis keys, URLs and labels.
ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}\Z"
MAX_METADATA_BYTES = 4096
#: A character takes four bytes at most, so shorter programs need no count of their bytes.
_SHORT_CODE = MAX_CODE_BYTES // 4
#: Decoding and encoding recurse, and must succeed wherever in the call stack they happen later.
MAX_METADATA_DEPTH = 100
_TOO_DEEP = f"must not be nested more than {MAX_METADATA_DEPTH} deep"


class EvalOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """What may come with a program: the keyword arguments of ``tasks.evaluate_code``.

    Attributes:
        stdin: what the program reads on descriptor 0.
        stdin_encoding: ``base64`` where stdin is not text.
        args: arguments after the program's own name.
        env: environment variables.
        files: placed beside the program.
        output_files: names of files to return, or patterns with ``*``, ``?`` and ``**``.
        limits: what it may use.
        compile_limits: what its compiler may use, where its language has one.
        environment: the image to run in; None takes the first that has the language.
        isolation: ``container`` or ``nested``; None takes what the installation is set to.
        tests: run one after the other, each in a fresh file system; 1 to 1000.
        compare: how outputs are compared with the expected answers.
        checker: a program that compares instead; where there is one it decides, whatever the mode.
        interactor: a program that talks to the judged one, and decides.
        stop: skips the rest after the first test that fails (``first_failure``), or the rest of its
            group (``group``); ``never`` runs all.
        webhook_url: where to report the end, once; None reports it to registered webhooks only.
        result_ttl_s: seconds its result is kept once it has ended; None keeps it as long as the
            installation keeps results.
    """

    stdin: str = ""
    stdin_encoding: Literal["utf-8", "base64"] = "utf-8"
    args: list[str] = []
    env: dict[str, str] = {}
    files: list[SourceFile] = []
    output_files: list[str] = []
    limits: LimitsRequest | None = None
    compile_limits: LimitsRequest | None = None
    environment: str | None = None
    isolation: Isolation | None = None
    tests: list[TestRequest] | None = None
    compare: CompareRequest | None = None
    checker: GraderRequest | None = None
    interactor: GraderRequest | None = None
    stop: Stop = "never"
    webhook_url: str | None = None
    result_ttl_s: int | None = None


class EvalRequest(EvalOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /api/eval``.

    Attributes:
        code: source text, not empty.
        language: a name from the language table, or an alias.
        eval_id: the client's own id; the same id again returns the first evaluation.
        priority: 0 to 9, 9 is the most urgent.
        metadata: returned as it came with the evaluation.
    """

    code: str
    language: str = "python"
    eval_id: Annotated[str, Meta(pattern=ID_PATTERN)] | None = None
    priority: Annotated[int, Meta(ge=0, le=9)] = 5
    metadata: dict[str, Any] | None = None


_Request = TypeVar("_Request", bound=EvalRequest)
_request_decoder = msgspec.json.Decoder(EvalRequest)
_option_defaults = EvalOptions()
#: Every option and its default.
_OPTIONS = tuple((name, getattr(_option_defaults, name)) for name in EvalOptions.__struct_fields__)
_options = attrgetter(*EvalOptions.__struct_fields__)
_DEFAULTS = _options(_option_defaults)


def decode_request(body: bytes) -> EvalRequest:
    """Parse and shape-check a request body.

    Raises:
        InputError: not JSON (``field`` is empty), or of the wrong shape (``field`` is named).
    """
    return decode_as(body, _request_decoder)


def decode_as(body: bytes, decoder: msgspec.json.Decoder[_Request]) -> _Request:
    """The same for a kind of request with further fields."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise with_key(input_error(error, decoder.type), body) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise undecodable(error, body) from None


def queue_of(priority: int) -> str:
    """The queue of a user priority: 7-9 ``high_priority``, 3-6 ``evaluation``, 0-2 ``batch``."""
    if priority >= 7:
        return "high_priority"
    return "evaluation" if priority >= 3 else "batch"


def celery_priority(priority: int) -> int:
    """The Celery priority of a user priority; on Redis the lower number is served first."""
    return 9 - priority


def is_plain(request: EvalOptions) -> bool:
    """Whether all options are their defaults, as of most requests."""
    return bool(_options(request) == _DEFAULTS)


def options_of(request: EvalOptions) -> dict[str, Any]:
    """The keyword arguments of the task: what differs from the default, as plain JSON types."""
    if is_plain(request):
        return {}
    return {
        name: msgspec.to_builtins(value)
        for name, default in _OPTIONS
        if (value := getattr(request, name)) != default
    }


def digest_of(request: EvalRequest, *, plain: bool = False) -> bytes:
    """A fingerprint of the content: two requests under one id must agree in it.

    The id itself is left out, so that the caller may keep it beside the fingerprint.

    Args:
        request: whose.
        plain: ``options_of`` is known to give nothing for it.
    """
    if plain:
        own = (request.code, request.language, request.priority, request.metadata)
        content = _PLAIN + _encode_in_order(own)[1:]
    else:
        content = _encode_in_order(_digested(request))
    return hashlib.blake2b(content, digest_size=16).digest()


_digested = attrgetter(*(name for name in EvalRequest.__struct_fields__ if name != "eval_id"))
_encode_in_order = msgspec.json.Encoder(order="deterministic").encode
#: How the content of a request without options begins; its own fields follow.
_PLAIN = _encode_in_order(_DEFAULTS)[:-1] + b","


def size_of(request: EvalRequest) -> int:
    """About how many bytes of memory a request takes, for bounds on many of them."""
    files = sum(len(file.content) for file in request.files)
    tests = sum(map(_size_of_test, request.tests or ()))
    graders = (request.checker, request.interactor)
    code = len(request.code) + sum(len(one.code) for one in graders if one)
    return 500 + code + len(request.stdin) + files + tests


def _size_of_test(test: TestRequest) -> int:
    files = sum(len(file.content) for file in test.files)
    return 500 + len(test.stdin) + len(test.expected or "") + files


def check_request(
    request: EvalRequest,
    served: ServedEnvironments,
    ceilings: Limits,
    isolations: Collection[Isolation] = ISOLATIONS,
    *,
    plain: bool | None = None,
) -> EvalRequest:
    """Refuse what could never run, or may not as asked.

    Args:
        request: what was asked.
        served: the installation's environments.
        ceilings: the most that may be asked for.
        isolations: those that may be asked for.
        plain: what ``is_plain`` says of the request, where that is known.

    Returns:
        The request, with its language by its name where it had an alias.

    Raises:
        InputError: naming the first field that is wrong.
    """
    if request.metadata:
        _check_metadata(request.metadata)
    environment, language, limits = _check_program(request, served, ceilings)
    if is_plain(request) if plain is None else plain:  # the checks below would find nothing
        check_memory(limits, request.code, 0, ())
    else:
        _compile_limits(request, environment, language, limits, ceilings)
        if request.isolation is not None and request.isolation not in isolations:
            raise InputError("isolation", f"may be {' or '.join(isolations)} here")
        stdin = _check_options(request, language)
        check_memory(limits, request.code, len(stdin), request.files)
        check_grading(request, limits, language, served, ceilings)
    if request.language == language.name:
        return request
    return msgspec.structs.replace(request, language=language.name)


def program_from(
    eval_id: str,
    code: str,
    language: str,
    options: Mapping[str, Any],
    *,
    served: ServedEnvironments,
    ceilings: Limits,
    isolation: Isolation = "container",
) -> Program:
    """The program of a task message where only programs are run; arguments as of ``job_from``.

    Raises:
        InputError: naming the argument that is wrong; ``tests`` where there are some.
    """
    program, grading = job_from(
        eval_id, code, language, options, served=served, ceilings=ceilings, isolation=isolation
    )
    if grading is not None:
        raise InputError("tests", "cannot be graded by the legacy queue, which runs programs only")
    return program


def job_from(
    eval_id: str,
    code: str,
    language: str,
    options: Mapping[str, Any],
    *,
    served: ServedEnvironments,
    ceilings: Limits,
    isolation: Isolation = "container",
) -> tuple[Program, Grading | None]:
    """The program of a task message, checked anew: anybody may write to a queue.

    Args:
        eval_id: its scoped id, which says whose program it is.
        code: source text.
        language: its name.
        options: what came with it.
        served: the environments it may run in.
        ceilings: the most it may ask for.
        isolation: what it gets where it names none.

    Returns:
        The program; and all that is needed to grade it, where it has tests.

    Raises:
        InputError: naming the argument that is wrong.
    """
    tenant = tenant_of(eval_id)
    try:
        arguments = msgspec.convert(
            {"code": code, "language": language, "eval_id": public_id(eval_id), **options},
            EvalRequest,
        )
    except msgspec.ValidationError as error:
        raise input_error(error, EvalRequest) from None
    environment, known, limits = _check_program(arguments, served, ceilings)
    stdin = _check_options(arguments, known)
    check_memory(limits, code, len(stdin), arguments.files)
    program = Program(
        language=known.name,
        code=code,
        stdin=stdin,
        args=tuple(arguments.args),
        env=arguments.env,
        files=tuple(arguments.files),
        output_files=tuple(arguments.output_files),
        limits=limits,
        compile_limits=_compile_limits(arguments, environment, known, limits, ceilings),
        environment=environment.name,
        isolation=arguments.isolation or isolation,
        tenant=tenant,
        eval_id=eval_id,
    )
    grading = check_grading(arguments, limits, known, served, ceilings)
    return program, grading and msgspec.structs.replace(grading, program=program)


def _check_metadata(metadata: dict[str, Any]) -> None:
    try:
        text = msgspec.json.encode(metadata)
        msgspec.msgpack.encode(metadata)  # as it is kept, see ``Record``
    except OverflowError:
        raise InputError("metadata", "must not have integers of more than 64 bits") from None
    except RecursionError:
        raise InputError("metadata", _TOO_DEEP) from None
    if len(text) > MAX_METADATA_BYTES:
        raise InputError("metadata", f"must not exceed {MAX_METADATA_BYTES} bytes of JSON")
    brackets = text.count(b"[") + text.count(b"{")
    if brackets > MAX_METADATA_DEPTH and _depth_of(metadata) > MAX_METADATA_DEPTH:
        raise InputError("metadata", _TOO_DEEP)


def _depth_of(value: Any) -> int:
    """How many objects and lists are within one another."""
    depth, level = 0, [value]
    while level := [v for v in level if isinstance(v, (dict, list))]:
        depth += 1
        level = [x for v in level for x in (v.values() if isinstance(v, dict) else v)]
    return depth


def _check_program(
    request: EvalRequest, served: ServedEnvironments, ceilings: Limits
) -> tuple[Environment, Language, Limits]:
    """The environment, language and limits of a program that may run."""
    code = request.code
    if not code or code.isspace():
        raise InputError("code", "must not be empty")
    environment, language = served.find(request.language, request.environment)
    if len(code) > _SHORT_CODE:
        check_code(code)
    limits = checked_limits(request.limits, ceilings, language.defaults)
    check_environment(environment, limits)
    return environment, language, limits


def _compile_limits(
    request: EvalRequest,
    environment: Environment,
    language: Language,
    limits: Limits,
    ceilings: Limits,
) -> Limits | None:
    """What a program's compiler may use, where the request names any of it."""
    if request.compile_limits is None:
        return None
    usual = compile_defaults(language, limits)
    asked = checked_limits(request.compile_limits, ceilings, usual, COMPILE_LIMITS)
    if not language.compile:
        return None
    check_compile_memory(environment, asked, request.code, request.files)
    return asked


def _check_options(options: EvalOptions, language: Language) -> bytes:
    """Check what may be left out; the bytes of standard input."""
    if options.args:
        check_arguments(options.args)
    if options.env:
        check_env(options.env)
    if options.files:
        check_files(options.files, language.file_name)
    if options.output_files:
        check_output_files(options.output_files)
    stdin = _stdin_bytes(options) if options.stdin else b""
    check_stdin(len(stdin))
    return stdin


def _stdin_bytes(options: EvalOptions) -> bytes:
    if options.stdin_encoding == "utf-8":
        return options.stdin.encode("utf-8", "surrogatepass")
    return from_base64("stdin", options.stdin)
