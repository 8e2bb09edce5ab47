#include <stdio.h>
#include <stdlib.h>

static int by_value(const void *a, const void *b) {
    long x = *(const long *)a, y = *(const long *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    long numbers[256];
    size_t count = 0;
    while (count < 256 && scanf("%ld", &numbers[count]) == 1) count++;
    qsort(numbers, count, sizeof *numbers, by_value);
    for (size_t i = 0; i < count; i++) printf("%s%ld", i ? argv[1] : "", numbers[i]);
    printf("\n%d %zu\n", argc, count);
    return count == 0;
}
