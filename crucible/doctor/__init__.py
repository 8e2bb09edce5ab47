"""Checks whether a machine can run Crucible, and says how to fix what is missing."""

from crucible.doctor.check import Check, Severity
from crucible.doctor.examination import run_checks

__all__ = ["Check", "Severity", "run_checks"]
