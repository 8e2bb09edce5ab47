import os

with open("filler.bin", "wb") as file:
    print("writing", flush=True)
    for _ in range(64):
        file.write(b"\0" * 1_000_000)
        file.flush()
print("never printed")
