"""Node names are what a stock worker would have."""

from __future__ import annotations

import socket

import pytest
from celery.utils.nodenames import default_nodename, host_format

from crucible.worker.config import WorkerConfig
from crucible.worker.control.node_name import node_name


@pytest.mark.parametrize("machine", ["box", "box.example.org"])
@pytest.mark.parametrize(
    "text",
    [
        "w1",
        "w1@host",
        "w1@%h",
        "%n@%d",
        "%n@%h",
        "w%i@%h",
        "w1%I@h.x",
        "@h",
        "w1@",
        "w1@a.%d",
        "%n",
    ],
)
def test_a_name_is_what_stock_makes_of_it(
    monkeypatch: pytest.MonkeyPatch, machine: str, text: str
) -> None:
    """With and without a domain."""
    monkeypatch.setattr(socket, "gethostname", lambda: machine)
    monkeypatch.setattr("celery.utils.nodenames.gethostname", lambda: machine)
    assert node_name(text) == host_format(default_nodename(text))
    assert WorkerConfig(broker_url="redis://h/0", name=text).hostname == node_name(text)


@pytest.mark.parametrize("text", ["w1@%x", "a@b@c", "a b@h", "w*@h", "w,@h", "w%%@h", "é@%z"])
def test_a_name_nothing_can_address_is_refused(text: str) -> None:
    """Nor one whose abbreviation is none."""
    with pytest.raises(ValueError, match=r"NAME@HOST|stands for nothing"):
        node_name(text)
