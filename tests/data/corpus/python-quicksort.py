from __future__ import annotations


def quicksort(items: list[int]) -> list[int]:
    if len(items) < 2:
        return items
    pivot = items[len(items) // 2]
    return (
        quicksort([x for x in items if x < pivot])
        + [x for x in items if x == pivot]
        + quicksort([x for x in items if x > pivot])
    )


def pseudo_random(count: int, seed: int = 12345) -> list[int]:
    values = []
    for _ in range(count):
        seed = (1103515245 * seed + 12345) % 2**31
        values.append(seed % 1000)
    return values


values = pseudo_random(500)
result = quicksort(values)
assert result == sorted(values)
print(*result[:10], "...", *result[-10:])
print("sum", sum(result))
