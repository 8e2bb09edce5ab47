#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(void) {
    puts("started");
    fflush(stdout);
    for (;;) {
        char *block = malloc(1 << 20);
        if (block) memset(block, 1, 1 << 20);
    }
}
