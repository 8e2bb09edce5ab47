import tempfile
from pathlib import Path

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "numbers.txt"
    path.write_text("\n".join(map(str, range(1000))))
    print(path.stat().st_size, sum(map(int, path.read_text().split())))
print(path.exists())
