import sys

numbers = list(map(int, sys.stdin.read().split()))
total = sum(numbers[1:]) / numbers[0]
print(f"{total:.9f}")
