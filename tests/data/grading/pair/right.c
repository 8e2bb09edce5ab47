#include <stdio.h>
#include <stdlib.h>
#include <string.h>

long long numbers[1000];

int main(void) {
    int count = 0;
    while (scanf("%lld", &numbers[count]) == 1) count++;
    long long total[] = {1, numbers[0] - 1};
    printf("%lld %lld\n", total[0], total[1]);
    return 0;
}
