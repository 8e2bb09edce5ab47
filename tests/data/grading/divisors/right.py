import sys

numbers = list(map(int, sys.stdin.read().split()))
total = [d for d in range(1, numbers[0] + 1) if numbers[0] % d == 0]
for d in reversed(total):
    print(d)
