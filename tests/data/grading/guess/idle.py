# Waits for an answer to what it has not flushed.
import sys

print(500)
sys.stdin.readline()
