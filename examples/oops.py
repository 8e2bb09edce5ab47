"""Fails on purpose: the answer holds what was printed, the traceback, and exit code 1."""

prices = {"pear": 3, "fig": 7}
for fruit in ("pear", "fig", "plum"):
    print(fruit, prices[fruit], flush=True)
