"""Flags are made from the table of settings; nobody writes one by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from crucible.cli.main import app
from crucible.cli.setting_flags import ALIASES, fields_of, flag_name
from crucible.errors import SettingsError
from crucible.settings import Settings, as_environ, env_name, load_settings
from crucible.settings.fields import TABLES
from crucible.settings.sections import Section, descriptions, sections

TOKENS = {"api_key", "queue_service_token", "executor_token"}
WITH_FLAG = [field for field in Settings.__struct_fields__ if field not in TOKENS | TABLES]
#: A value of each setting that is not its default, as one types it and as it is printed.
TYPED: dict[str, tuple[str, Any]] = {
    "autoscale_min": ("3", 3),
    "autoscale_down": ("3.5", 3.5),
    "celery_enabled": ("false", False),
    "force_legacy_queue": ("true", True),
    "dual_write": ("true", True),
    "celery_percentage": ("0.25", 0.25),
    "celery_broker_url": ("redis://h:1/2", "redis://h:1/2"),
    "celery_result_backend": ("unix:///r.sock", "unix:///r.sock"),
    "history_url": ("sqlite:////srv/h.sqlite", "sqlite:////srv/h.sqlite"),
    "event_bus_url": ("redis://h:1/3", "redis://h:1/3"),
    "queue_service_url": ("http://h:2", "http://h:2"),
    "executor_urls": ("http://a:1,http://b:2", ["http://a:1", "http://b:2"]),
    "queues": ("a,b", ["a", "b"]),
    "environments": ("judge,data", ["judge", "data"]),
    "pool_max": ("40", 40),
    "claim": ("brpop", "brpop"),
    "docker_runtime": ("runsc", "runsc"),
    "gpus": ("0,1", ["0", "1"]),
    "log_level": ("error", "error"),
    "log_format": ("json", "json"),
    "publish_deadline_s": ("0.5", 0.5),
    "allowed_hosts": ("a.example,b.example", ["a.example", "b.example"]),
    "isolation": ("nested", "nested"),
    "webhook_networks": ("10.1.0.0/16,fd00::/8", ["10.1.0.0/16", "fd00::/8"]),
    "model_networks": ("10.1.0.0/16", ["10.1.0.0/16"]),
    "resources": ("gpu0=1,slots=2", ["gpu0=1", "slots=2"]),
    "otlp_endpoint": ("http://h:4318", "http://h:4318"),
    "flower_url": ("http://h:5555", "http://h:5555"),
    "model_url": ("http://h:8080/v1", "http://h:8080/v1"),
    "docker_url": ("tcp://h:2375", "tcp://h:2375"),
    "object_store_url": ("s3://bucket/at", "s3://bucket/at"),
    "trace_sample_rate": ("0.5", 0.5),
    "isolations": ("nested,container", ["nested", "container"]),
}


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the environment nor a file decides anything."""
    for field in Settings.__struct_fields__:
        monkeypatch.delenv(env_name(field), raising=False)
    monkeypatch.chdir(tmp_path)


def typed(field: str) -> tuple[str, Any]:
    """What to type for a setting, and what is in force then."""
    if field in TYPED:
        return TYPED[field]
    default = getattr(Settings(), field)
    if isinstance(default, bool):
        return str(not default).lower(), not default
    value = default + 17 if isinstance(default, int | float) else f"some-{field}"
    return str(value), value


def invoke(*arguments: str) -> dict[str, Any]:
    """What ``crucible settings`` finds in force."""
    done = CliRunner().invoke(app, ["settings", "--json", *arguments])
    assert done.exit_code == 0, done.output or done.exception
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("field", WITH_FLAG)
def test_every_setting_has_a_flag_of_its_name(field: str) -> None:
    """What is typed is in force, and nothing else changes."""
    text, value = typed(field)
    # Some switches need a legacy queue; it is there for all of them.
    common = () if field == "queue_service_url" else ("--queue-service-url", "http://h:2")
    before = invoke(*common)
    flag = flag_name(field)
    given = {"true": [flag], "false": [f"--no-{flag[2:]}"]}.get(text, [flag, text])
    assert before[env_name(field)] != value
    assert invoke(*common, *given) == {**before, env_name(field): value}


@pytest.mark.parametrize("token", sorted(TOKENS))
def test_tokens_have_no_flag(token: str) -> None:
    """Everybody on a machine can read a command line."""
    done = CliRunner().invoke(app, ["settings", flag_name(token), "x"])
    assert done.exit_code == 2
    assert "No such option" in done.output


def test_short_names_and_repeated_flags_are_taken() -> None:
    """Those of earlier versions, and several values in either way."""
    for field, alias in ALIASES.items():
        text, value = typed(field)
        given = [alias] if value is True else [alias, text]
        assert invoke(*given)[env_name(field)] == value
    assert invoke("--queues", "a", "--queues", "b,c")["CRUCIBLE_QUEUES"] == ["a", "b", "c"]


def test_an_empty_flag_overrules_what_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag that is given counts, also without a value."""
    monkeypatch.setenv("CRUCIBLE_DOCKER_RUNTIME", "runsc")
    monkeypatch.setenv("CRUCIBLE_EXECUTOR_URLS", "http://a:1")
    found = invoke("--docker-runtime", "", "--executor-urls", "")
    assert (found["CRUCIBLE_DOCKER_RUNTIME"], found["CRUCIBLE_EXECUTOR_URLS"]) == ("", [])


@pytest.mark.parametrize(
    "arguments", [["--port", "x"], ["--port", "65536"], ["--max-pids", "1"], ["--claim", "pop"]]
)
def test_a_value_no_flag_can_have_is_a_wrong_command_line(arguments: list[str]) -> None:
    """Exit code 2, and the flag is named."""
    done = CliRunner().invoke(app, ["settings", *arguments])
    assert done.exit_code == 2
    assert arguments[0] in done.output


@pytest.mark.parametrize(
    "url",
    [
        "redis://h/0?foo=1",
        "redis://h/0?socket_timeout=abc",
        "unix:///q.sock?foo=1",
        "rediss://h/0?ssl_cert_reqs=maybe&password=hunter2",
        "sentinel://h:1;h:2/0?master_name=m&foo=1",
    ],
)
def test_a_query_that_no_connection_takes_is_refused(url: str) -> None:
    """The setting is named, before anything is connected; a password is not."""
    done = CliRunner().invoke(app, ["settings", "--event-bus-url", url])
    assert isinstance(done.exception, SettingsError)
    assert str(done.exception).startswith("CRUCIBLE_EVENT_BUS_URL: ")
    assert "hunter2" not in str(done.exception)


@pytest.mark.parametrize(
    "url",
    [
        "redis://h/0?socket_timeout=1.5&health_check_interval=3&max_connections=5",
        "rediss://u:p@h/0?ssl_cert_reqs=CERT_NONE&password=x",
        "unix:///q.sock?virtual_host=3",
        "sentinel://:pw@h:1;h:2/0?master_name=m&sentinel_password=x",
    ],
)
def test_a_query_of_redis_py_s_own_fields_is_taken(url: str) -> None:
    """And masked where it is secret."""
    assert "CRUCIBLE_EVENT_BUS_URL" in invoke("--event-bus-url", url)


def help_of(*command: str) -> str:
    """A command's help, wide enough not to be cut."""
    done = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"})
    assert done.exit_code == 0
    return done.output


@pytest.mark.parametrize(
    ("command", "there", "absent"),
    [
        (
            "api",
            "port queue_limit celery_percentage max_memory_mb result_ttl_s environments",
            "pool_min queues",
        ),
        (
            "worker",
            "queues max_deliveries docker_runtime pool_max executor_urls environments",
            "port queue_limit",
        ),
        ("up", "port queue_limit celery_percentage pool_max queues data_dir", "debian_mirror"),
        ("executor", "host concurrency docker_runtime max_pids environments", "celery_broker_url"),
        ("legacy queue", "host log_level", "celery_broker_url"),
        ("legacy worker", "queue_service_url executor_urls breaker_open_s environments", "port"),
        ("migration status", "celery_broker_url queue_service_url", "host"),
        ("compare", "celery_broker_url queue_service_url", "port"),
        ("dlq list", "celery_broker_url global_keyprefix claim", "port"),
        ("purge", "celery_result_backend", "port"),
        ("queues", "queues", "port"),
        ("images build", "debian_mirror docker_url sandbox_image data_dir", "port"),
        ("environments build", "environments debian_mirror docker_url data_dir", "port"),
        ("submit", "host port", "celery_broker_url"),
    ],
)
def test_a_command_has_the_flags_that_concern_it(command: str, there: str, absent: str) -> None:
    """And not those of others."""
    words = set(help_of(*command.split()).replace(",", " ").split())
    assert {flag_name(field) for field in there.split()} <= words
    assert not {flag_name(field) for field in absent.split()} & words


@pytest.mark.parametrize("command", [("executor",), ("legacy", "queue")])
def test_a_port_of_a_command_s_own_is_not_the_setting(command: tuple[str, ...]) -> None:
    """It stands among the command's own options and has its own default."""
    before, heading, _ = help_of(*command).partition(" Listening ")
    assert heading
    assert "--port" in before


def test_help_is_grouped_and_says_what_each_setting_is() -> None:
    """Every section is a heading; every setting has a description and stands in its section."""
    shown = help_of("settings")
    assert all(f" {section} " in shown for section in Section)
    assert set(sections()) == set(descriptions()) == set(Settings.__struct_fields__)
    assert all(fields_of((section,)) for section in Section)
    assert sections()["max_pids"] is Section.CEILINGS
    assert sections()["log_level"] is Section.PROCESS


def test_the_environment_of_a_child_is_read_back_as_it_was() -> None:
    """Tokens too: they come to a child by its environment, never by its command line."""
    changed = {field: typed(field)[0] for field in WITH_FLAG if field != "dual_write"}
    environ = {env_name(field): text for field, text in changed.items()}
    own = '{"geo": {"base": "data", "packages": ["jq"]}}'
    environ |= {"CRUCIBLE_EXECUTOR_TOKEN": "secret", "CRUCIBLE_OWN_ENVIRONMENTS": own}
    settings = load_settings(environ)
    assert settings.own_environments["geo"].packages == ["jq"]
    assert settings != Settings()
    assert load_settings(as_environ(settings)) == settings
