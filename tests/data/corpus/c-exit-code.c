#include <stdio.h>
#include <stdlib.h>
static void bye(void) { fputs("bye\n", stderr); }
int main(void) {
    atexit(bye);
    exit(300);
}
