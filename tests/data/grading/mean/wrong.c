#include <stdio.h>
#include <stdlib.h>
#include <string.h>

long long numbers[1000];

int main(void) {
    int count = 0;
    while (scanf("%lld", &numbers[count]) == 1) count++;
    double total = 0;
    for (int i = 1; i < count; i++) total += numbers[i];
    total /= numbers[0];
    total += 1;
    printf("%.9f\n", total);
    return 0;
}
