import os

print("closing", flush=True)
os._exit(255)
