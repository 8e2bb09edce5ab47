import math

assert math.isclose(sum([0.1] * 10), 1.0)
