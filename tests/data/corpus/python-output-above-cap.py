import sys

sys.stdout.write("0123456789abcdef" * (64 * 1024 // 16) + "!")
