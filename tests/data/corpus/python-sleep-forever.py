import sys
import time

print("going to sleep", flush=True)
print("still on stderr", file=sys.stderr, flush=True)
time.sleep(3600)
