#include <stdio.h>
int main(void) {
    int *volatile nowhere = NULL;
    puts("reaching out");
    fflush(stdout);
    return *nowhere;
}
