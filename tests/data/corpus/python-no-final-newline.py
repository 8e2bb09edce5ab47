print("one")
print("two", end="")
