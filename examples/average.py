"""Reads {"name": [marks, ...], ...} as JSON from stdin and prints a table."""

import json
import sys
from statistics import mean, median

marks = json.load(sys.stdin)
print(f"{'name':<12}{'mean':>8}{'median':>8}")
for name, values in sorted(marks.items()):
    print(f"{name:<12}{mean(values):>8.2f}{median(values):>8.2f}")
