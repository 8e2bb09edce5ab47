import os
import sys

for number, argument in enumerate(sys.argv[1:], 1):
    print(number, repr(argument))
print(os.environ["GREETING"], os.environ.get("EMPTY") == "", "MISSING" in os.environ)
