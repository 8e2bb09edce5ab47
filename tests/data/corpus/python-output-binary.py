import sys

sys.stdout.buffer.write(bytes(range(256)) * 4)
sys.stderr.buffer.write(b"\xff\xfe\x00\x1b[31m\xc3")
