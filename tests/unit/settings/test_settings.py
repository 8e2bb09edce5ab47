from __future__ import annotations

import re
from pathlib import Path

import pytest

from crucible.broker.redis.connection import read_url
from crucible.errors import SettingsError
from crucible.evaluation.limits import ceilings_of, checked_limits
from crucible.models import LIMIT_FLOORS
from crucible.settings import (
    Settings,
    check_exposure,
    child_environ,
    env_name,
    load_settings,
    mask_url,
)

NOWHERE = {"CRUCIBLE_CONFIG": ""}


def test_a_new_install_is_celery_only() -> None:
    """With nothing set, evaluations go to Celery queues on loopback and nowhere else."""
    settings = load_settings({})
    assert settings.celery_enabled
    assert settings.celery_percentage == 1.0
    assert settings.queue_service_url == ""
    assert settings.host == "127.0.0.1"
    assert settings.result_url == settings.celery_broker_url


def test_flags_beat_environment_beats_file(tmp_path: Path) -> None:
    """The nearer a value is to the person who types, the more it counts."""
    file = tmp_path / "crucible.toml"
    file.write_text("port = 1\nconcurrency = 2\nqueue_limit = 3\n")
    environ = {"CRUCIBLE_PORT": "11", "CRUCIBLE_CONCURRENCY": "12"}
    settings = load_settings(environ, flags={"port": 21, "concurrency": None}, file=file)
    assert (settings.port, settings.concurrency, settings.queue_limit) == (21, 12, 3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CRUCIBLE_PORT", "65536"),
        ("CRUCIBLE_PORT", "eighty"),
        ("CELERY_PERCENTAGE", "1.5"),
        ("CELERY_PERCENTAGE", "-0.1"),
        ("CELERY_PERCENTAGE", "ten"),
        ("CELERY_PERCENTAGE", "nan"),
        ("CELERY_ENABLED", "perhaps"),
        ("CELERY_BROKER_URL", "amqp://localhost"),
        ("CELERY_BROKER_URL", "localhost"),
        ("QUEUE_SERVICE_URL", "ftp://old"),
        ("CRUCIBLE_EXECUTOR_URLS", "http://a,b"),
        ("CRUCIBLE_QUEUES", ","),
        ("CRUCIBLE_DOCKER_RUNTIME", "docker"),
        ("CRUCIBLE_CLAIM", "pop"),
        ("CRUCIBLE_PUBLISH_DEADLINE_S", "inf"),
        ("CRUCIBLE_VISIBILITY_TIMEOUT_S", "0"),
        ("CRUCIBLE_VISIBILITY_TIMEOUT_S", "inf"),
        ("CRUCIBLE_POOL_MAX", "1"),
        ("CRUCIBLE_AUTOSCALE_MAX", "0"),
        ("CRUCIBLE_AUTOSCALE_DOWN", "10"),
        ("CRUCIBLE_CONFIG", "/nonexistent/crucible.toml"),
        ("CRUCIBLE_DATA_DIR", "~nobodyx/x"),
        ("CELERY_BROKER_URL", "redis://[::1/0"),
        ("CELERY_BROKER_URL", "redis://h:99999/0"),
        ("CELERY_BROKER_URL", "redis://h:abc/0"),
        ("CELERY_BROKER_URL", "redis://h:0/0"),
        ("CELERY_BROKER_URL", "redis://h/abc"),
        ("CELERY_BROKER_URL", "redis://h/0?db=x"),
        ("CELERY_BROKER_URL", "redis://:se/cret@h/0"),
        ("CELERY_BROKER_URL", "unix:///run/q.sock?virtual_host=x"),
        ("CELERY_BROKER_URL", "sentinel://h:1;h2:2/0"),
        ("CELERY_BROKER_URL", "sentinel://h:1;h2:x/0?master_name=m"),
        ("CELERY_RESULT_BACKEND", "redis://h:x"),
        ("CRUCIBLE_EVENT_BUS_URL", "redis://h/x"),
        ("QUEUE_SERVICE_URL", "http://"),
        ("QUEUE_SERVICE_URL", "http://h:x"),
        ("CRUCIBLE_EXECUTOR_URLS", "http://a:1,http://[b"),
        ("CRUCIBLE_QUEUES", "a,b,a"),
        ("CRUCIBLE_MAX_WALL_TIME_S", "0.09"),
        ("CRUCIBLE_MAX_CPU_TIME_S", "0.01"),
        ("CRUCIBLE_MAX_MEMORY_MB", "15"),
        ("CRUCIBLE_MAX_PIDS", "1"),
        ("CRUCIBLE_RESULT_TTL_S", "99999999999999999999"),
        ("CRUCIBLE_QUEUE_LIMIT", "2147483648"),
        ("CRUCIBLE_MAX_WAIT_S", "1e300"),
        ("CRUCIBLE_MODEL_URL", "ftp://models"),
        ("CRUCIBLE_DOCKER_URL", "not a url"),
        ("CRUCIBLE_DOCKER_URL", "tcp://h:99999"),
    ],
)
def test_a_bad_value_stops_the_start_and_is_named(name: str, value: str) -> None:
    """Out-of-range and contradictory settings are errors that name the setting."""
    with pytest.raises(SettingsError) as caught:
        load_settings({name: value})
    assert caught.value.setting == name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CELERY_PERCENTAGE", "0.5"),
        ("CELERY_ENABLED", "false"),
        ("FORCE_LEGACY_QUEUE", "true"),
        ("CRUCIBLE_DUAL_WRITE", "true"),
    ],
)
def test_a_mode_without_the_legacy_queue_it_needs_names_both(name: str, value: str) -> None:
    """The error names the missing QUEUE_SERVICE_URL, and its text the setting that needs it."""
    with pytest.raises(SettingsError, match=name) as caught:
        load_settings({name: value})
    assert caught.value.setting == "QUEUE_SERVICE_URL"


@pytest.mark.parametrize("other", [{"CELERY_PERCENTAGE": "0.5"}, {"CELERY_ENABLED": "false"}])
def test_dual_write_contradicts_a_split_and_celery_off(other: dict[str, str]) -> None:
    """Contradictory switches stop the start, and the error names the one to change."""
    with pytest.raises(SettingsError) as caught:
        load_settings({"CRUCIBLE_DUAL_WRITE": "1", "QUEUE_SERVICE_URL": "http://q:8002", **other})
    assert caught.value.setting == "CRUCIBLE_DUAL_WRITE"


def test_the_legacy_share_is_allowed_where_there_is_a_legacy_queue() -> None:
    """A percentage below one is fine once the other side exists."""
    settings = load_settings({"CELERY_PERCENTAGE": "0.25", "QUEUE_SERVICE_URL": "http://q:8002"})
    assert settings.celery_percentage == 0.25


SEVERAL = [
    "redis://a;redis://b",
    "redis://a:6379/0;redis://b:6379/0",
    "redis://:hunter2@a;redis://:hunter2@b",
    "redis://a;b",
    "redis://a/0;b/0",
    "rediss://a/0?x=1;rediss://b",
    "unix:///a.sock;unix:///b.sock",
]


@pytest.mark.parametrize("url", SEVERAL)
def test_a_list_of_servers_is_refused_for_what_it_is(url: str) -> None:
    """Celery takes the next one when the first does not answer; here Sentinel does that."""
    with pytest.raises(SettingsError, match=r"names several servers.*sentinel://") as caught:
        load_settings({"CELERY_BROKER_URL": url})
    assert caught.value.setting == "CELERY_BROKER_URL"
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ValueError, match="names several servers") as refused:
        read_url(url)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["redis://:pa;ss@h/0", "unix:///a;b.sock", "redis://h/0?password=a;b"]
)
def test_a_semicolon_elsewhere_is_none(url: str) -> None:
    """In a password or in a path."""
    load_settings({"CELERY_BROKER_URL": url})
    read_url(url)


def test_an_unknown_key_in_the_file_is_an_error(tmp_path: Path) -> None:
    """A mistyped key must not be ignored in silence."""
    file = tmp_path / "crucible.toml"
    file.write_text("prot = 8001\n")
    with pytest.raises(SettingsError, match="prot"):
        load_settings({}, file=file)


def test_a_setting_twice_in_the_file_is_an_error(tmp_path: Path) -> None:
    """With both spellings one would win in silence."""
    file = tmp_path / "crucible.toml"
    file.write_text("port = 1\nCRUCIBLE_PORT = 2\n")
    with pytest.raises(SettingsError, match="CRUCIBLE_PORT twice"):
        load_settings({}, file=file)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("CRUCIBLE_PROT", "CRUCIBLE_PORT"),
        ("CRUCIBLE_QUEUE", "CRUCIBLE_QUEUES"),
        ("CRUCIBLE_MAX_MEM_MB", "CRUCIBLE_MAX_MEMORY_MB"),
        ("CRUCIBLE_EXECUTOR_URL", "CRUCIBLE_EXECUTOR_URLS"),
        ("CRUCIBLE_BROKER_URL", "CELERY_BROKER_URL"),
        ("CRUCIBLE_FORCE_LEGACY_QUEUE", "FORCE_LEGACY_QUEUE"),
    ],
)
def test_a_misspelt_variable_is_an_error(name: str, meant: str) -> None:
    """It must not be ignored in silence, and the error says what was meant."""
    with pytest.raises(SettingsError, match=f"did you mean {meant}?") as caught:
        load_settings({name: "1"})
    assert caught.value.setting == name
    load_settings({name: ""})


@pytest.mark.parametrize(
    "name", ["CRUCIBLE_SERVICE_HOST", "CRUCIBLE_PORT_8000_TCP", "CRUCIBLE_SIDECAR_NAME"]
)
def test_a_variable_that_is_no_setting_is_mentioned(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be somebody else's, so it stops nothing."""
    load_settings({name: "1"})
    assert [record.getMessage().split()[0] for record in caplog.records] == [name]


def test_variables_of_scripts_and_tests_are_known(caplog: pytest.LogCaptureFixture) -> None:
    """Every name of ours that the repository reads is a setting or one of the others."""
    root = Path(__file__).parents[3]
    read = [root / "scripts" / "setup", *(root / "tests" / "security").glob("*.py")]
    names = {name for file in read for name in re.findall(r"CRUCIBLE_[A-Z_]+", file.read_text())}
    assert {"CRUCIBLE_SOAK", "CRUCIBLE_DOCKERD_LOG"} <= names
    load_settings(dict.fromkeys(names - {env_name(f) for f in Settings.__struct_fields__}, "1"))
    assert caplog.records == []


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:pw@h/1", "redis://:***@h/1"),
        ("redis://user:pw@h/1", "redis://user:***@h/1"),
        ("https://pw@h/1", "https://***@h/1"),
        ("redis://h/1?db=2", "redis://h/1?db=2"),
        ("redis://h/0?password=pw", "redis://h/0?password=***"),
        ("redis://h/0?a=1&Password=pw&db=1", "redis://h/0?a=1&Password=***&db=1"),
        ("redis://h/0?password=a&pw", "redis://h/0?password=***&***"),
        ("redis://h/0?password=a@pw", "redis://h/0?password=***"),
        ("rediss://h?ssl_password=pw", "rediss://h?ssl_password=***"),
        ("redis://:a/pw@h/0", "redis://:***@h/0"),
        ("redis://:a#pw@h/0", "redis://:***@h/0"),
        ("redis://:a?pw@h/0", "redis://:***@h/0"),
        ("redis://:a@pw@h/0", "redis://:***@h/0"),
        ("redis://:pw@[h/0", "redis://:***@[h/0"),
        ("user:pw@h", "user:***@h"),
        ("unix:///run/a@b.sock", "unix:///run/a@b.sock"),
        ("socket://u:pw@/run/q.sock", "socket://u:***@/run/q.sock"),
        ("sentinel://:pw@h1:1;sentinel://:pw@h2:2", "sentinel://:***@h1:1;sentinel://:***@h2:2"),
        ("sentinel://h1:1;u:pw@h2:2/0?master_name=m", "sentinel://h1:1;u:***@h2:2/0?master_name=m"),
        ("sentinel://:pw;pw@h1:1", "***;***@h1:1"),
        ("sentinel://h/0?sentinel_password=pw", "sentinel://h/0?sentinel_password=***"),
    ],
)
def test_a_password_is_masked_wherever_it_stands(url: str, shown: str) -> None:
    """Also in a URL that cannot be used; what is no secret stays readable."""
    assert mask_url(url) == shown
    assert "pw" not in shown


@pytest.mark.parametrize(
    "url", ["redis://:hunter2/@h/0", "redis://:hunter2@[h/0", "redis://:hun\u2100ter2@h/0"]
)
def test_an_error_about_a_url_quotes_no_password(url: str) -> None:
    """The standard library's own sentences would."""
    with pytest.raises(SettingsError) as caught:
        load_settings({"CELERY_BROKER_URL": url})
    assert "CELERY_BROKER_URL" in str(caught.value)
    assert "ter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://h:1/",
        "redis://[::1]:1/15",
        "rediss://u:p%40@h:1/2?ssl_cert_reqs=CERT_REQUIRED",
        "unix:///run/q.sock?db=3",
        "redis+socket:///run/q.sock?virtual_host=4",
        "sentinel://:pw@h1:1;sentinel://h2:2;h3/0?master_name=m",
    ],
)
def test_every_form_of_a_queue_url_is_accepted(url: str) -> None:
    """What the broker can read, the settings let through."""
    assert read_url(load_settings({"CELERY_BROKER_URL": url}).celery_broker_url).options


def test_a_ceiling_at_the_floor_of_its_limit_is_accepted() -> None:
    """The request check and the settings have one floor."""
    ceilings = {f"CRUCIBLE_MAX_{name.upper()}": str(getattr(LIMIT_FLOORS, name))
                for name in LIMIT_FLOORS.__struct_fields__}  # fmt: skip
    assert checked_limits(None, ceilings_of(load_settings(ceilings))) == LIMIT_FLOORS


def test_secrets_are_masked_everywhere() -> None:
    """Passwords in URLs and tokens appear neither in repr nor in the printed settings."""
    settings = Settings(
        celery_broker_url="redis://user:hunter2@h:1/0", executor_token="hunter3", executor_urls=()
    )
    assert "hunter" not in repr(settings)
    assert "hunter" not in str(settings.masked())
    with pytest.raises(SettingsError) as caught:
        load_settings({"CELERY_BROKER_URL": "http://user:hunter2@h:1/0"})
    assert "hunter" not in str(caught.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_serving_beyond_loopback_without_keys_is_refused(host: str) -> None:
    """Nobody gets in from outside while there are no keys."""
    with pytest.raises(SettingsError, match="CRUCIBLE_HOST"):
        check_exposure(host, keyed=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_is_served(host: str) -> None:
    """Every spelling of this machine is accepted."""
    check_exposure(host, keyed=False)


def test_tables_of_the_file_are_environments(tmp_path: Path) -> None:
    """``[environments.NAME]`` makes one; which are served is spelt in full beside it."""
    file = tmp_path / "crucible.toml"
    file.write_text(
        'crucible_environments = ["mine", "default"]\n'
        "[environments.mine]\n"
        'base = "data"\n'
        'packages = ["jq"]\n'
    )
    settings = load_settings({}, file=file)
    assert [one.name for one in settings.served_environments] == ["mine", "default"]
    # What is derived from settings is kept by them, such as the description of the API.
    assert hash(settings) == hash(load_settings({}, file=file))
    file.write_text('environments = ["judge"]\n')
    assert load_settings({}, file=file).served_environments[0].name == "judge"


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ('environments = ["nowhere"]', "CRUCIBLE_ENVIRONMENTS"),
        ('[environments.a]\npackages = "jq"', "CRUCIBLE_OWN_ENVIRONMENTS"),
        ("[environments.a]\nsurprise = 1", "CRUCIBLE_OWN_ENVIRONMENTS"),
        ('[environments.a]\nbase = "b"', "environments.a.base"),
    ],
)
def test_an_environment_that_cannot_be_is_refused(tmp_path: Path, text: str, setting: str) -> None:
    """At the start, and by name."""
    file = tmp_path / "crucible.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_settings({}, file=file)
    assert caught.value.setting == setting


def test_there_may_be_no_event_bus() -> None:
    """``off`` is no URL, and nothing else is off."""
    assert load_settings({"CRUCIBLE_EVENT_BUS_URL": "off"}).event_bus is None
    assert load_settings({}).event_bus == "redis://127.0.0.1:6379/0"
    with pytest.raises(SettingsError) as caught:
        load_settings({"CRUCIBLE_EVENT_BUS_URL": "none"})
    assert caught.value.setting == "CRUCIBLE_EVENT_BUS_URL"


def test_a_file_holds_what_is_not_to_be_in_the_environment(tmp_path: Path) -> None:
    """As containers are handed their secrets."""
    secret = tmp_path / "token"
    secret.write_text("s3cret\n")
    settings = load_settings({"CRUCIBLE_EXECUTOR_TOKEN_FILE": str(secret)})
    assert settings.executor_token == "s3cret"


@pytest.mark.parametrize(
    ("content", "other", "said"),
    [
        (None, {}, "No such file"),
        ("\n", {}, "is empty"),
        ("\udcff", {}, "is not text"),
        ("x", {"CRUCIBLE_EXECUTOR_TOKEN": "y"}, "CRUCIBLE_EXECUTOR_TOKEN is set as well"),
    ],
)
def test_a_file_that_cannot_be_the_value_is_named(
    tmp_path: Path, content: str | None, other: dict[str, str], said: str
) -> None:
    """And none of it is quoted."""
    secret = tmp_path / "token"
    if content is not None:
        secret.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(SettingsError, match=said) as raised:
        load_settings({"CRUCIBLE_EXECUTOR_TOKEN_FILE": str(secret), **other})
    assert "CRUCIBLE_EXECUTOR_TOKEN_FILE" in str(raised.value)


def test_children_have_the_settings_that_were_read_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is read once: the child is handed its value, not its name."""
    secret = tmp_path / "token"
    secret.write_text("s3cret")
    monkeypatch.setenv("CRUCIBLE_EXECUTOR_TOKEN_FILE", str(secret))
    environ = child_environ(load_settings())
    secret.unlink()
    assert load_settings(environ).executor_token == "s3cret"
