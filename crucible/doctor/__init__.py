"""What a machine needs to run Crucible: found, judged, and what to do about what is missing."""

from crucible.doctor.check import Check, Severity
from crucible.doctor.examination import run_checks

__all__ = ["Check", "Severity", "run_checks"]
