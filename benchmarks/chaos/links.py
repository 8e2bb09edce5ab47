"""What the battle shares with the tests: the faulty TCP proxy and the child process."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
# The tests are no package, and both ends of this repository are run from a checkout.
sys.path.append(str(ROOT / "tests"))

from stock_rig.child import Child  # noqa: E402
from support.faults import Fault as LinkFault  # noqa: E402 - found by the line above
from support.faults import FaultProxy  # noqa: E402

__all__ = ["ROOT", "Child", "FaultProxy", "LinkFault"]
