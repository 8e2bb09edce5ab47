// Conway's game of life on a torus: a glider, four generations. The argument is how many.
const generations = Number(process.argv[2] ?? 4);
const size = 8;
let board = ['.#......', '..#.....', '###.....', ...Array(5).fill('........')];

const alive = (x, y) => board[(y + size) % size][(x + size) % size] === '#';
const neighbours = (x, y) =>
  [-1, 0, 1].flatMap((dx) => [-1, 0, 1].map((dy) => [dx, dy]))
    .filter(([dx, dy]) => (dx || dy) && alive(x + dx, y + dy)).length;

for (let generation = 0; generation <= generations; generation++) {
  console.log(`generation ${generation}\n${board.join('\n')}\n`);
  board = board.map((row, y) => [...row].map((_, x) => {
    const count = neighbours(x, y);
    return count === 3 || (count === 2 && alive(x, y)) ? '#' : '.';
  }).join(''));
}
