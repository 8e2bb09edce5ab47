"""Fails on purpose: the result has the output, the traceback, and exit code 1."""

prices = {"pear": 3, "fig": 7}
for fruit in ("pear", "fig", "plum"):
    print(fruit, prices[fruit], flush=True)
