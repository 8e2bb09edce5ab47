from fractions import Fraction


def product(a, b):
    return [[sum(x * y for x, y in zip(row, column)) for column in zip(*b)] for row in a]


def power(m, n):
    result = [[int(i == j) for j in range(len(m))] for i in range(len(m))]
    while n:
        if n & 1:
            result = product(result, m)
        m = product(m, m)
        n >>= 1
    return result


print(product([[1, 2, 3], [4, 5, 6]], [[7, 8], [9, 10], [11, 12]]))
print(power([[1, 1], [1, 0]], 90)[0][1])
hilbert = [[Fraction(1, i + j + 1) for j in range(4)] for i in range(4)]
print(*(" ".join(map(str, row)) for row in product(hilbert, hilbert)), sep="\n")
size = 60
a = [[(i * j) % 7 for j in range(size)] for i in range(size)]
print(sum(map(sum, product(a, a))))
