from decimal import ROUND_HALF_EVEN, Decimal, getcontext

getcontext().prec = 40
print(Decimal(2).sqrt())
print(sum([Decimal("0.1")] * 10), 0.1 + 0.2, round(2.5), f"{1e23:.0f}")
print(Decimal("2.675").quantize(Decimal("0.01"), ROUND_HALF_EVEN))
print(float("inf") - 1, float("nan") == float("nan"), -0.0)
