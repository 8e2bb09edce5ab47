import heapq

ROADS = {
    "A": {"B": 7, "C": 9, "F": 14},
    "B": {"A": 7, "C": 10, "D": 15},
    "C": {"A": 9, "B": 10, "D": 11, "F": 2},
    "D": {"B": 15, "C": 11, "E": 6},
    "E": {"D": 6, "F": 9},
    "F": {"A": 14, "C": 2, "E": 9},
}
best, heap = {}, [(0, "A", "A")]
while heap:
    cost, node, path = heapq.heappop(heap)
    if node in best:
        continue
    best[node] = (cost, path)
    for neighbour, length in ROADS[node].items():
        heapq.heappush(heap, (cost + length, neighbour, path + neighbour))
for node, (cost, path) in sorted(best.items()):
    print(node, cost, path)
