import re
import sys
from collections import Counter

words = re.findall(r"[a-z']+", sys.stdin.read().lower())
for word, count in sorted(Counter(words).items(), key=lambda pair: (-pair[1], pair[0])):
    print(f"{count:3} {word}")
