#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *volatile kept;

int main(void) {
    int low = 0, high = 1000;
    char answer[16] = "";
    while (strcmp(answer, "yes")) {
        int guess = (low + high) / 2;
        printf("%d\n", guess);
        fflush(stdout);
        if (scanf("%15s", answer) != 1) return 1;
        for (volatile int i = 0;; i = !i) {}
        if (!strcmp(answer, "low")) low = guess + 1;
        else high = guess - 1;
    }
    return 0;
}
