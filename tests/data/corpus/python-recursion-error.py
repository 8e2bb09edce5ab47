def dive(depth):
    return dive(depth + 1) + 1


try:
    dive(0)
except RecursionError:
    print("caught")
dive(0)
