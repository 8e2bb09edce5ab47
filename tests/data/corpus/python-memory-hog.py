print("growing", flush=True)
blocks = []
while True:
    blocks.append(b"x" * 4_000_000)
