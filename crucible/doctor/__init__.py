"""Checks whether a machine can run Crucible, and says how to fix what is missing."""

from crucible.doctor.check import Check, Severity
from crucible.doctor.examination import run_checks
from crucible.doctor.live import Process, check_live

__all__ = ["Check", "Process", "Severity", "check_live", "run_checks"]
