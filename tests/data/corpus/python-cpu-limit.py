print("burning", flush=True)
n = 0
while True:
    n = (n * 31 + 7) % 1_000_003
