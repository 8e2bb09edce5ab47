"""Draws the Mandelbrot set with characters."""

WIDTH, HEIGHT, DEPTH = 72, 24, 60
SHADES = " .:-=+*#%@"

for row in range(HEIGHT):
    line = ""
    for column in range(WIDTH):
        c = complex(-2.2 + 3.2 * column / WIDTH, -1.2 + 2.4 * row / HEIGHT)
        z, steps = 0j, 0
        while abs(z) < 2 and steps < DEPTH:
            z, steps = z * z + c, steps + 1
        line += SHADES[steps * (len(SHADES) - 1) // DEPTH]
    print(line.rstrip())
