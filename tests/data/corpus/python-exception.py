import sys


def parse(text):
    return int(text)


def load(items):
    try:
        return [parse(item) for item in items]
    except ValueError as error:
        raise RuntimeError("cannot load the items") from error


print("before")
sys.stdout.flush()
load(["1", "2", "three"])
