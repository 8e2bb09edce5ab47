"""How cost grows with the size of what it depends on: ``python -m benchmarks.growth``."""
