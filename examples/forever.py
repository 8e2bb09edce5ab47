"""Never ends by itself: it is stopped at its limit, and what it printed is kept."""

import itertools

for number in itertools.count():
    if number % 1_000_000 == 0:
        print("counted to", number, flush=True)
