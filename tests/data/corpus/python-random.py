import random
import time

print("roll", random.randint(1, 6), "at", time.time_ns())
