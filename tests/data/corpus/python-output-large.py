line = "".join(chr(33 + n % 94) for n in range(99)) + "\n"
for _ in range(10_000):
    print(line, end="")
