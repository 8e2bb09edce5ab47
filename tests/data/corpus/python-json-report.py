import json
import sys
from collections import defaultdict

orders = json.load(sys.stdin)
totals = defaultdict(lambda: {"orders": 0, "cents": 0})
for order in orders:
    entry = totals[order["customer"]]
    entry["orders"] += 1
    entry["cents"] += sum(item["cents"] * item.get("count", 1) for item in order["items"])
print(json.dumps(totals, indent=2, sort_keys=True, ensure_ascii=False))
