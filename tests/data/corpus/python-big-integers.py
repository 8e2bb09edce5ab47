from math import comb, factorial, gcd, isqrt

print(factorial(100))
print(pow(3, 10**18, 10**9 + 7), gcd(2**200 - 1, 2**150 - 1) == 2**50 - 1)
print(isqrt(2 * 10**100), comb(200, 100))
mersenne = 2**2203 - 1
print(len(str(mersenne)), str(mersenne)[:20], mersenne % 997)
