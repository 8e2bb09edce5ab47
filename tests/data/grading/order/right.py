import sys

numbers = list(map(int, sys.stdin.read().split()))
total = sorted(numbers[1:])
print(*total)
