"""The benchmark harness: subjects, scenarios, figures, targets. Run it with ``crucible bench``."""
