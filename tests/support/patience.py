"""How long tests wait for what has to happen."""

from __future__ import annotations

#: Seconds that only a fault uses up: what takes a moment takes many times as long on a machine that
#: does other things as well, and no verdict may depend on that.
PATIENCE_S = 60.0
