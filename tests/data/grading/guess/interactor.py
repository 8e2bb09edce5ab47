import sys

# Answers guesses at a number from 0 to 1000; ten are enough.
wanted = int(open(sys.argv[1]).read())
for _ in range(10):
    line = sys.stdin.readline()
    if not line.strip().isdigit():
        print("no number:", repr(line), file=sys.stderr)
        sys.exit(2)
    guess = int(line)
    print("low" if guess < wanted else "high" if guess > wanted else "yes", flush=True)
    if guess == wanted:
        sys.exit(0)
print("too many guesses", file=sys.stderr)
sys.exit(1)
