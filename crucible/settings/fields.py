"""``Settings``: each field is one setting.

Its environment variable is ``CRUCIBLE_`` and the field's name in capitals, except for the six
settings that keep the names they have in the systems they come from.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from crucible.environments import Environment, EnvironmentTable, served_environments
from crucible.models import ISOLATIONS, LIMIT_FLOORS, Isolation, Tier
from crucible.redis_keys import EVENT_LIMIT
from crucible.settings.tiers import TierRules, TierTable, tiers_of
from crucible.settings.urls import mask_url

Port = Annotated[int, Meta(ge=0, le=65535)]
Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Seconds = Annotated[float, Meta(gt=0.0)]

#: Served strictly in this order by async and stock workers alike.
QUEUES = (
    "high_priority",
    "evaluation",
    "batch",
    "maintenance",
    "webhooks",
    "assessments",
    "reports",
)
#: Every queue that Crucible uses, in the order of service.
KNOWN_QUEUES = (
    "high_priority", "evaluation", "batch", "maintenance", "webhooks", "gpu_queue", "assessments",
    "reports", "celery",
)  # fmt: skip
#: The value of ``event_bus_url`` without an event bus; an empty one would count as not set.
NO_EVENT_BUS = "off"
#: The value of ``history_url`` without a history, where there would be one by default.
NO_HISTORY = "off"
#: The same of ``object_store_url``.
NO_OBJECTS = "off"
#: Settings whose environment variable has no ``CRUCIBLE_`` prefix.
FOREIGN_NAMES = frozenset(
    {
        "celery_enabled",
        "celery_percentage",
        "force_legacy_queue",
        "celery_broker_url",
        "celery_result_backend",
        "queue_service_url",
    }
)
#: Variables that scripts and tests read; they are not settings and not misspelt ones either.
OTHER_NAMES = frozenset(
    {"CRUCIBLE_CONFIG", "CRUCIBLE_DOCKERD_FLAGS", "CRUCIBLE_DOCKERD_LOG", "CRUCIBLE_SOAK"}
)
#: Shown as ``***``.
SECRETS = frozenset({"api_key", "executor_token", "queue_service_token"})
#: Tables of the file.
TABLES = frozenset({"own_environments", "tiers"})


def default_data_dir() -> Path:
    """The user's data directory by the XDG specification."""
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(home) / "crucible"


class Settings(msgspec.Struct, frozen=True, kw_only=True, repr_omit_defaults=True):
    """The effective settings.

    Attributes:
        host: address the api, an executor or a legacy queue listens on.
        port: port the api listens on; 0 takes any free one.
        processes: api processes that listen on the port together.
        allowed_hosts: names under which the service is reached besides loopback's and ``host``;
            ``*`` for any. Requests for other hosts are refused.
        api_key: key with which commands of this machine ask the api.
        flower_url: a Flower that the api passes ``/flower/`` on to, started with
            ``--url_prefix=flower``; empty means there is none.
        head_timeout_s: seconds the head of a request may take to arrive.
        transfer_grace_s: seconds a client may take to send a body or to read an answer before
            its rate counts.
        transfer_rate_kb: KiB a second that a client has to send or to read after that.
        idle_timeout_s: seconds a connection may be open without a request.
        max_unfinished_mb: MiB held of all unfinished bodies, and as many of unread answers.
        max_connections: connections open at once; 0 means no limit.
        max_connections_per_address: the same from one address; 0 means no limit.
        celery_broker_url: the task queue server.
        celery_result_backend: where results are stored; empty means the task queue server.
        replicas: replicas of the task queue server that must have a submission before its 202.
        global_keyprefix: put before every key of the task queue.
        claim: ``atomic`` (no loss on kill) or ``brpop`` (for servers without scripting).
        result_keyprefix: put before every key of a result: ``global_keyprefix`` of Celery's
            ``result_backend_transport_options``, as its versions from 5.5 on read it.
        result_ttl_s: seconds a result is kept, and what is remembered of its evaluation; 0 means
            for ever.
        max_result_ttl_s: longest ``result_ttl_s`` of a submission, seconds.
        result_extended: keep name, arguments, worker, retries and queue with each result.
        event_bus_url: the event bus server; ``off`` for no events.
        event_limit: events the bus keeps, about; the oldest go first.
        compat: facades that the api serves: names with commas, each with ``:PORT`` where it has a
            port of its own as well; ``all``; or ``none``.
        max_event_streams: clients that follow events of one api process; 0 means no limit.
        max_event_streams_per_tenant: the same of one tenant; 0 means no limit.
        history_url: the database of the history, ``sqlite:///FILE`` or ``postgresql://…``; empty
            means there is none, except for ``crucible up``, which keeps one in ``data_dir`` unless
            this is ``off``.
        history_batch: events that are written to the history in one transaction.
        history_days_premium: days the history of evaluations in ``high_priority`` is kept; 0 means
            for ever.
        history_days_standard: the same of ``evaluation`` and all other queues.
        history_days_bulk: the same of ``batch``.
        object_store_url: where large outputs are kept, ``file:///DIRECTORY`` or
            ``s3://BUCKET/PREFIX`` (credentials and endpoint from ``AWS_*``); empty means in the
            results, except for ``crucible up``, which keeps them in ``data_dir`` unless this is
            ``off``.
        object_threshold_kb: KiB of one output from which on it is kept there.
        queue_limit: messages a queue may hold before submissions get 503; 0 means no limit.
        publish_deadline_s: seconds after which a submission fails if the server does not answer.
        max_body_kb: largest request body, KiB.
        max_wait_s: longest ``?wait=``, seconds.
        isolations: those that submissions may ask for.
        webhook_networks: private networks that webhooks may go to, such as 10.1.0.0/16.
        webhook_timeout_s: seconds one request to a receiver may take.
        webhook_disable_after_s: seconds of failures alone after which a webhook is disabled.
        model_url: where models are that are named without a URL, ``https://…`` or
            ``file:///…``; empty for nowhere.
        model_dir: folder that ``file://`` models may be in; empty for none.
        model_networks: private networks that models may be downloaded from.
        model_max_mb: largest model, MiB.
        model_cache_dir: where workers keep models; empty is ``models`` in ``data_dir``.
        resources: what pipelines may reserve, each as NAME=NUMBER, such as gpu0=1.
        celery_enabled: new evaluations may go to Celery queues.
        celery_percentage: share of new evaluations sent to Celery, 0.0 to 1.0.
        force_legacy_queue: send all to the legacy queue, whatever the other switches say.
        dual_write: the legacy queue answers; Celery gets a copy of each to be compared.
        queue_service_url: the legacy queue service; empty means there is none.
        queue_service_token: bearer token of the legacy queue service.
        breaker_failures: consecutive failures after which a downstream's circuit opens.
        breaker_open_s: seconds a circuit stays open before it is half-open.
        breaker_trials: successes that close a half-open circuit.
        queues: queues a worker serves, in order; by default those of evaluations, or
            ``celery`` for ``worker --tasks``.
        concurrency: programs a worker runs at once; 0 means one per core, at least two.
        default_queue: where a task goes that is sent from a task and names no queue; empty means
            ``celery``, or ``evaluation`` where evaluations are served.
        events: send task events from the start, for Flower.
        schedule: send the maintenance tasks when they are due, as ``celery beat`` would; several
            workers agree on one.
        max_deliveries: deliveries of one message before it becomes a dead letter.
        visibility_timeout_s: seconds until stock workers restore a foreign claim; must be the
            same for every worker on the queues.
        task_soft_time_limit_s: seconds after which a task of the platform that runs no program is
            asked to end; 0 for never. Programs have limits of their own.
        task_time_limit_s: seconds after which it is stopped; 0 for never.
        worker_max_tasks: tasks after which a worker process is replaced, by one that is ready
            before it goes; 0 for never.
        worker_max_memory_mb: the same by its resident memory, MiB.
        drain_s: seconds running programs may take to finish after SIGTERM.
        autoscale_min: workers that autoscaling keeps at least; 0 where something else starts the
            first one.
        autoscale_max: workers it asks for at most.
        autoscale_up: messages waiting for each worker above which it asks for more.
        autoscale_down: messages waiting for each worker under which it asks for fewer.
        autoscale_target_age_s: seconds a message may wait before it asks for more, by how long
            tasks take.
        autoscale_hold_s: seconds for which fewer must have been enough before it asks for fewer.
        executor_urls: executor services; empty means containers are started here.
        executor_token: bearer token of the executor services.
        docker_url: the engine; empty means its default socket.
        gpus: devices that programs of this worker get, by index or UUID; ``all``; or
            ``simulated:N``, which are declared only. A worker with some serves ``gpu_queue`` too.
        docker_runtime: ``runc``, ``crun``, ``runsc``; empty means the engine's default.
        sandbox_image: image that programs of the default environment run in.
        isolation: of programs that name none: ``container`` (one made anew for each) or
            ``nested`` (namespaces of its own in a container of its tenant).
        lane_programs: programs a lane, a container of ``nested``, serves before it is restarted.
        sessions: sessions that a worker keeps at once, each in a sandbox of its own; 0 keeps none.
        session_idle_s: longest that a session may be without a cell, seconds.
        session_total_s: longest that a session may exist, seconds.
        pool_min: least number of sandboxes kept ready, of each environment in use.
        pool_max: most sandboxes of an environment, busy ones included; 0 means four times the
            concurrency.
        compile_cache_mb: MiB of compiled programs kept where containers are started, so that the
            same source of a tenant is compiled once; 0 keeps none.
        max_wall_time_s: ceiling of ``limits.wall_time_s``, and of the same in ``compile_limits``.
        max_cpu_time_s: ceiling of ``limits.cpu_time_s``, likewise.
        max_memory_mb: ceiling of ``limits.memory_mb``, likewise.
        max_pids: ceiling of ``limits.pids``, likewise.
        max_output_kb: ceiling of ``limits.output_kb``, likewise.
        max_disk_mb: ceiling of ``limits.disk_mb``, likewise.
        tiers: what keys of each tier may do, the ``[tiers.NAME]`` tables of the file; in the
            environment as JSON.
        environments: environments that are served; a request that names none gets the first with
            its language; empty means the default and this installation's own.
        own_environments: this installation's own, the ``[environments.NAME]`` tables of the file;
            in the environment as JSON.
        sandbox_packages_file: list of packages to add to the default environment.
        debian_mirror: Debian archive to build images from; empty means debootstrap's default.
        otlp_endpoint: receiver of traces over OTLP/HTTP, such as http://127.0.0.1:4318; empty means
            that nothing is traced.
        trace_sample_rate: share of requests that are traced, 0.0 to 1.0, where their clients do not
            say so with a ``traceparent``.
        data_dir: where ``crucible up`` keeps its servers' data.
        log_level: least severity that is logged.
        log_format: ``human`` for lines, ``json`` for an object a line, with the task it is about.
    """

    host: str = "127.0.0.1"
    port: Port = 8000
    processes: Annotated[int, Meta(ge=1, le=256)] = 1
    allowed_hosts: tuple[str, ...] = ()
    api_key: str = ""
    flower_url: str = ""
    head_timeout_s: Seconds = 10.0
    transfer_grace_s: Seconds = 20.0
    transfer_rate_kb: Annotated[float, Meta(gt=0.0)] = 4.0
    idle_timeout_s: Seconds = 75.0
    max_unfinished_mb: Positive = 64
    max_connections: Count = 2048
    max_connections_per_address: Count = 1024
    celery_broker_url: str = "redis://127.0.0.1:6380/0"
    celery_result_backend: str = ""
    replicas: Count = 0
    global_keyprefix: str = ""
    result_keyprefix: str = ""
    claim: Literal["atomic", "brpop"] = "atomic"
    result_ttl_s: Count = 86_400
    max_result_ttl_s: Positive = 7 * 86_400
    result_extended: bool = False
    event_bus_url: str = "redis://127.0.0.1:6379/0"
    event_limit: Annotated[int, Meta(ge=1000)] = EVENT_LIMIT
    compat: str = "all"
    max_event_streams: Count = 2048
    max_event_streams_per_tenant: Count = 2048
    history_url: str = ""
    history_batch: Annotated[int, Meta(ge=1, le=10_000)] = 2000
    history_days_premium: Count = 365
    history_days_standard: Count = 90
    history_days_bulk: Count = 30
    object_store_url: str = ""
    object_threshold_kb: Positive = 8192
    queue_limit: Count = 1_000_000
    publish_deadline_s: Annotated[float, Meta(gt=0.0, lt=2.0)] = 1.5
    max_body_kb: Positive = 2048
    max_wait_s: Seconds = 60.0
    isolations: tuple[Isolation, ...] = ISOLATIONS
    webhook_networks: tuple[str, ...] = ()
    webhook_timeout_s: Annotated[float, Meta(gt=0.0, le=60.0)] = 15.0
    webhook_disable_after_s: Seconds = 5 * 86_400.0
    model_url: str = ""
    model_dir: str = ""
    model_networks: tuple[str, ...] = ()
    model_max_mb: Positive = 1024
    model_cache_dir: str = ""
    resources: tuple[str, ...] = ("slots=4",)
    celery_enabled: bool = True
    celery_percentage: Share = 1.0
    force_legacy_queue: bool = False
    dual_write: bool = False
    queue_service_url: str = ""
    queue_service_token: str = ""
    breaker_failures: Positive = 5
    breaker_open_s: Seconds = 10.0
    breaker_trials: Positive = 1
    queues: tuple[str, ...] = QUEUES
    concurrency: Count = 0
    default_queue: str = ""
    events: bool = False
    schedule: bool = False
    max_deliveries: Positive = 5
    visibility_timeout_s: Seconds = 3600.0
    task_soft_time_limit_s: Count = 600
    task_time_limit_s: Count = 900
    worker_max_tasks: Count = 0
    worker_max_memory_mb: Count = 0
    drain_s: Seconds = 30.0
    autoscale_min: Count = 1
    autoscale_max: Positive = 10
    autoscale_up: Seconds = 10.0
    autoscale_down: Annotated[float, Meta(ge=0.0)] = 2.0
    autoscale_target_age_s: Seconds = 30.0
    autoscale_hold_s: Seconds = 60.0
    executor_urls: tuple[str, ...] = ()
    executor_token: str = ""
    docker_url: str = ""
    gpus: tuple[str, ...] = ()
    docker_runtime: Literal["", "runc", "crun", "runsc"] = ""
    sandbox_image: str = "crucible-sandbox:latest"
    isolation: Isolation = "container"
    lane_programs: Positive = 64
    sessions: Count = 4
    session_idle_s: Seconds = 900.0
    session_total_s: Seconds = 3600.0
    pool_min: Count = 2
    pool_max: Count = 0
    compile_cache_mb: Count = 256
    max_wall_time_s: Annotated[float, Meta(ge=LIMIT_FLOORS.wall_time_s)] = 120.0
    max_cpu_time_s: Annotated[float, Meta(ge=LIMIT_FLOORS.cpu_time_s)] = 120.0
    max_memory_mb: Annotated[int, Meta(ge=LIMIT_FLOORS.memory_mb)] = 1024
    max_pids: Annotated[int, Meta(ge=LIMIT_FLOORS.pids)] = 256
    max_output_kb: Annotated[int, Meta(ge=LIMIT_FLOORS.output_kb)] = 8192
    max_disk_mb: Annotated[int, Meta(ge=LIMIT_FLOORS.disk_mb)] = 512
    tiers: dict[str, TierTable] = {}
    environments: tuple[str, ...] = ()
    own_environments: dict[str, EnvironmentTable] = {}
    sandbox_packages_file: str = ""
    debian_mirror: str = ""
    otlp_endpoint: str = ""
    trace_sample_rate: Share = 0.01
    data_dir: Path = msgspec.field(default_factory=default_data_dir)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["human", "json"] = "human"

    @property
    def event_bus(self) -> str | None:
        """URL of the event bus; None where there is none."""
        return None if self.event_bus_url == NO_EVENT_BUS else self.event_bus_url

    @property
    def history(self) -> str | None:
        """URL of the history's database; None where there is none."""
        return None if self.history_url in ("", NO_HISTORY) else self.history_url

    @property
    def objects(self) -> str | None:
        """URL of the object store; None where there is none."""
        return None if self.object_store_url in ("", NO_OBJECTS) else self.object_store_url

    @property
    def result_url(self) -> str:
        """Where results are stored."""
        return self.celery_result_backend or self.celery_broker_url

    @property
    def result_prefix(self) -> str:
        """``result_keyprefix`` as it stands in front of keys.

        Source: celery ``backends/base.py`` ``_add_global_keyprefix``, from 5.5 on.
        """
        prefix = self.result_keyprefix
        return f"{prefix}_" if prefix and prefix[-1] not in ":_-." else prefix

    @property
    def served_environments(self) -> tuple[Environment, ...]:
        """The environments that programs may ask for, in order.

        Raises:
            SettingsError: a name is unknown, or a table cannot be used.
        """
        return served_environments(self.environments, self.own_environments)

    @property
    def tier_rules(self) -> dict[Tier, TierRules]:
        """What holds for the keys of each tier.

        Raises:
            SettingsError: a table cannot be used.
        """
        return tiers_of(self.tiers, [one.name for one in self.served_environments])

    def __hash__(self) -> int:
        """Of all but the tables, which are mutable mappings; equal settings have equal hashes."""
        hashed = [name for name in self.__struct_fields__ if name not in TABLES]
        return hash(tuple(getattr(self, name) for name in hashed))

    def __repr__(self) -> str:
        """Effective values with secrets masked."""
        shown = ", ".join(f"{name}={value!r}" for name, value in self.masked().items())
        return f"Settings({shown})"

    def masked(self) -> dict[str, Any]:
        """Every setting by its environment name; passwords and tokens replaced by ``***``."""
        return {
            env_name(name): masked_value(name, getattr(self, name))
            for name in self.__struct_fields__
        }


def env_name(field: str) -> str:
    """The environment variable of a setting."""
    return field.upper() if field in FOREIGN_NAMES else f"CRUCIBLE_{field.upper()}"


def masked_value(field: str, value: object) -> object:
    """A setting's value with secrets masked."""
    if field in SECRETS:
        return "***" if value else ""
    if isinstance(value, tuple):
        return [masked_value(field, item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return msgspec.to_builtins(value)
    return mask_url(value) if isinstance(value, str) and "://" in value else value


def as_environ(settings: Settings) -> dict[str, str]:
    """Every setting as environment variables, tokens included.

    An empty value counts as unset there, so the setting takes its default.
    """
    return {env_name(name): _text(getattr(settings, name)) for name in settings.__struct_fields__}


def child_environ(settings: Settings) -> dict[str, str]:
    """The environment of a child process that has the settings as they were read here.

    No file overrides one there: neither ``crucible.toml`` nor one that a ``<NAME>_FILE`` names.
    """
    decided = as_environ(settings)
    files = {f"{name}_FILE" for name in decided} - decided.keys()
    ours = {name: value for name, value in os.environ.items() if name not in files}
    return {**ours, **decided, "CRUCIBLE_CONFIG": os.devnull}


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return msgspec.json.encode(value).decode() if value else ""
    return ",".join(value) if isinstance(value, tuple) else str(value)
