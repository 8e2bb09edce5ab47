"""Judge0's ``/languages``, ``/statuses``, ``/about`` and ``/config_info``."""

from __future__ import annotations

import os
import platform
from typing import Any

from aiohttp import web

from crucible.compat.context import CONTEXT
from crucible.compat.judge0_request import BATCH
from crucible.compat.judge0_submission import CPU_S, MEMORY_KB, PIDS, WALL_S
from crucible.errors import BrokerError
from crucible.evaluation.judge0_form import CALLBACK_S, CALLBACK_TRIES, LANGUAGES, STATUSES
from crucible.executor.admission import MAX_FILES_BYTES

#: Of the API that is spoken here.
VERSION = "1.13.1"


async def languages(request: web.Request) -> web.Response:
    """``GET /languages``."""
    return web.json_response(
        [{"id": one["id"], "name": one["name"]} for one in await _all(request)]
    )


async def all_languages(request: web.Request) -> web.Response:
    """``GET /languages/all``: none is archived."""
    return web.json_response(
        [{name: one[name] for name in ("id", "name", "is_archived")} for one in await _all(request)]
    )


async def language(request: web.Request) -> web.Response:
    """``GET /languages/{id}``."""
    for one in await _all(request):
        if str(one["id"]) == request.match_info["id"]:
            return web.json_response(one)
    return web.json_response({"error": "not found"}, status=404)


async def statuses(_: web.Request) -> web.Response:
    """``GET /statuses``."""
    return web.json_response(
        [{"id": number, "description": text} for number, text in STATUSES.items()]
    )


async def about(_: web.Request) -> web.Response:
    """``GET /about``."""
    return web.json_response(
        {"version": VERSION, "homepage": "", "source_code": "", "maintainer": ""}
    )


async def version(_: web.Request) -> web.Response:
    """``GET /version``."""
    return web.Response(text=VERSION)


async def system_info(_: web.Request) -> web.Response:
    """``GET /system_info``: the machine that answers, not those that run programs."""
    return web.json_response(
        {"Architecture": platform.machine(), "CPU(s)": str(os.cpu_count() or 1)}
    )


async def workers(request: web.Request) -> web.Response:
    """``GET /workers``: one queue; what it does not know of workers is zero."""
    try:
        waiting, there = await request.app[CONTEXT].load()
    except BrokerError:
        return web.json_response({"error": "queue is not reachable"}, status=503)
    return web.json_response(
        [
            {
                "queue": "default",
                "size": waiting,
                "available": there,
                "idle": there if not waiting else 0,
                "working": there if waiting else 0,
                "paused": 0,
                "failed": 0,
            }
        ]
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
            "enable_callbacks": True,
            "callbacks_max_tries": CALLBACK_TRIES,
            "callbacks_timeout": CALLBACK_S,
            "enable_additional_files": True,
            "max_extract_size": MAX_FILES_BYTES // 1024,
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


ROUTES = (
    web.get("/languages", languages),
    web.get("/languages/all", all_languages),
    web.get("/languages/{id}", language),
    web.get("/statuses", statuses),
    web.get("/about", about),
    web.get("/version", version),
    web.get("/config_info", config_info),
    web.get("/system_info", system_info),
    web.get("/workers", workers),
)
