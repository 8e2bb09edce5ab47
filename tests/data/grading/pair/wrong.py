import sys

numbers = list(map(int, sys.stdin.read().split()))
total = [1, numbers[0] - 1]
total[0] += 1
print(*total)
