import csv
import hashlib
from pathlib import Path

with open("data/cities.csv", newline="", encoding="utf-8") as file:
    rows = list(csv.DictReader(file))
for row in sorted(rows, key=lambda row: -int(row["people"])):
    print(f"{row['name']:<10}{int(row['people']):>9,}")
blob = Path("blob.bin").read_bytes()
print(len(blob), hashlib.md5(blob).hexdigest())
