import sys

# Accepts any two positive numbers with the right sum; one alone is worth half a point.
wanted = int(open(sys.argv[1]).read())
words = open(sys.argv[2]).read().split()
numbers = [int(word) for word in words if word.isdigit() and int(word) > 0]
if len(numbers) == 2 and sum(numbers) == wanted:
    sys.exit(0)
if len(numbers) == 1 and numbers[0] < wanted:
    print("points 0.5 one number of two", file=sys.stderr)
    sys.exit(7)
print(f"{words} do not add up to {wanted}", file=sys.stderr)
sys.exit(1)
