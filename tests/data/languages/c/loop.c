#include <stdio.h>

int main(void) {
    puts("started");
    fflush(stdout);
    for (volatile int i = 0;; i++) {}
}
