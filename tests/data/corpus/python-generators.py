from itertools import accumulate, chain, count, groupby, islice, takewhile


def collatz(n):
    while n != 1:
        yield n
        n = n // 2 if n % 2 == 0 else 3 * n + 1
    yield 1


def averager():
    total = number = 0
    average = None
    while True:
        value = yield average
        total += value
        number += 1
        average = total / number


running = averager()
next(running)
print([running.send(value) for value in (10, 20, 60)])
print(list(islice(collatz(27), 12)), sum(1 for _ in collatz(27)))
print(list(takewhile(lambda n: n < 50, accumulate(count(1)))))
print([(k, len(list(g))) for k, g in groupby("aaabccd")], list(chain("ab", [1])))
