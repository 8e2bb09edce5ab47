"""What the chaos test shares with the tests: fault proxy, child process, a look at sandboxes."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
# ``tests`` is not a package, and both are run from a checkout only.
sys.path.append(str(ROOT / "tests"))

from stock_rig.child import Child  # noqa: E402
from support.faults import Fault as LinkFault  # noqa: E402 - found by the line above
from support.faults import FaultProxy  # noqa: E402
from support.keyed import make_key  # noqa: E402
from support.own_engine import OwnEngine, own_engine  # noqa: E402
from support.receiver import Received, listening_receiver  # noqa: E402
from support.sandboxes import containers_of_processes, traces_of  # noqa: E402

__all__ = [
    "ROOT", "Child", "FaultProxy", "LinkFault", "OwnEngine", "Received", "containers_of_processes",
    "listening_receiver", "make_key", "own_engine", "traces_of",
]  # fmt: skip
