#include <stdio.h>
#include <stdlib.h>
#include <string.h>

long long numbers[1000];
char *volatile total_kept;

int main(void) {
    int count = 0;
    while (scanf("%lld", &numbers[count]) == 1) count++;
    long long total = numbers[0];
    if (numbers[0] > 20) {
        char *hoard = malloc(400 << 20);
        memset(hoard, 1, 400 << 20);
        total_kept = hoard;
    }
    for (long long d = total; d > 0; d--) if (total % d == 0) printf("%lld\n", d);
    return 0;
}
