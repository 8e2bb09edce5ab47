#include <stdio.h>

static long gcd(long a, long b) { return b ? gcd(b, a % b) : a; }

int main(void) {
    long a, b;
    if (scanf("%ld %ld", &a, &b) != 2) return 1;
    printf("%ld\n", gcd(a, b));
    return 0;
}
