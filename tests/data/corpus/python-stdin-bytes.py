import hashlib
import sys

data = sys.stdin.buffer.read()
print(len(data), data[:8].hex(), hashlib.sha256(data).hexdigest())
