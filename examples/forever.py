"""Never ends by itself: it is stopped at its time limit, and its output is kept."""

import itertools

for number in itertools.count():
    if number % 1_000_000 == 0:
        print("counted to", number, flush=True)
