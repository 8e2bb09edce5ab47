import os
import signal

print("forking", flush=True)
children = []
try:
    for _ in range(200):
        pid = os.fork()
        if pid == 0:
            signal.pause()
        children.append(pid)
except OSError as error:
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    print("refused", error.strerror)
    raise SystemExit(1)
