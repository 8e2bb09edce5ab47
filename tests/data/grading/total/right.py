import sys

numbers = list(map(int, sys.stdin.read().split()))
total = sum(numbers[1:])
print(total)
