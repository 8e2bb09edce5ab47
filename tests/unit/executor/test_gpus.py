"""The GPUs of a worker."""

from __future__ import annotations

import pytest

from crucible.errors import SettingsError
from crucible.executor.config import ExecutorConfig
from crucible.executor.gpus import check_gpus, count_of
from crucible.executor.sandbox_options import create_body
from crucible.models import Limits

UUID = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"


@pytest.mark.parametrize(
    ("gpus", "count", "asked"),
    [
        ((), 0, None),
        (("0", "1"), 2, {"Count": 0, "DeviceIDs": ["0", "1"]}),
        ((UUID,), 1, {"Count": 0, "DeviceIDs": [UUID]}),
        (("all",), 1, {"Count": -1}),
        (("simulated:2",), 2, None),
    ],
)
def test_what_the_engine_is_asked_for(
    gpus: tuple[str, ...], count: int, asked: dict[str, object] | None
) -> None:
    """The devices by name; nothing where there are none, or they are not real."""
    check_gpus(gpus)
    assert count_of(gpus) == count
    config = ExecutorConfig(owner="me", gpus=gpus)
    host = create_body(Limits(), config, uid=20_000, image_id="sha256:1")["HostConfig"]
    if asked is None:
        assert "DeviceRequests" not in host
    else:
        (request,) = host["DeviceRequests"]
        assert request == {"Driver": "", "Capabilities": [["gpu"]], "Options": {}, **asked}


@pytest.mark.parametrize("gpus", [("x",), ("-1",), ("simulated:0",), ("all", "0"), ("GPU-",)])
def test_what_names_no_gpu(gpus: tuple[str, ...]) -> None:
    """A worker does not start with it."""
    with pytest.raises(SettingsError, match="CRUCIBLE_GPUS"):
        check_gpus(gpus)
