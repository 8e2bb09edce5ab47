"""The settings of a worker."""

from __future__ import annotations

import dataclasses
import os

import pytest

from crucible.redis_keys import Keys
from crucible.worker.config import WorkerConfig, WorkerOptions


def test_every_setting_is_a_keyword_of_the_worker() -> None:
    """``Worker(registry, …)`` takes the fields of the config, with the same types."""
    fields = {field.name: field.type for field in dataclasses.fields(WorkerConfig) if field.init}
    options = {name: ref.__forward_arg__ for name, ref in WorkerOptions.__annotations__.items()}
    assert options.pop("broker_url") == f"Required[{fields.pop('broker_url')}]"
    assert options == fields


def test_what_follows_from_settings_is_worked_out() -> None:
    """Node name, key names and the place of results have defaults; nothing can be set later."""
    config = WorkerConfig(broker_url="redis://a/0", key_prefix="p:", result_prefix="r:")
    assert config.hostname.startswith(f"crucible{os.getpid()}@")
    assert config.keys == Keys("p:", "r:")
    assert config.result_backend == "redis://a/0"
    assert WorkerConfig(broker_url="redis://a/0", name="n@h").hostname == "n@h"
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.concurrency = 5  # type: ignore[misc]  # which is what is tested
