import queue
import threading

jobs, results = queue.Queue(), {}


def worker():
    while (n := jobs.get()) is not None:
        results[n] = sum(range(n))


threads = [threading.Thread(target=worker) for _ in range(4)]
for thread in threads:
    thread.start()
for n in range(0, 1000, 100):
    jobs.put(n)
for _ in threads:
    jobs.put(None)
for thread in threads:
    thread.join()
print(sorted(results.items()))
