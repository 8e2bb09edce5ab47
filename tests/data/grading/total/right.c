#include <stdio.h>
#include <stdlib.h>
#include <string.h>

long long numbers[1000];

int main(void) {
    int count = 0;
    while (scanf("%lld", &numbers[count]) == 1) count++;
    long long total = 0;
    for (int i = 1; i < count; i++) total += numbers[i];
    printf("%lld\n", total);
    return 0;
}
