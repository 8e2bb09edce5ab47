import sys

print("partial work")
sys.exit(3)
