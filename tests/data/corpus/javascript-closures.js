const counter = () => {
  let count = 0;
  return { up: (by = 1) => (count += by), get value() { return count; } };
};
const [a, b] = [counter(), counter()];
a.up(); a.up(5); b.up();
console.log(a.value, b.value);
var broken = [], fixed = [];
for (var i = 0; i < 3; i++) broken.push(() => i);
for (let j = 0; j < 3; j++) fixed.push(() => j);
console.log(broken.map((f) => f()), fixed.map((f) => f()));
const compose = (...fs) => (x) => fs.reduceRight((v, f) => f(v), x);
console.log(compose((x) => x + 1, (x) => x * 10, Math.sqrt)(81));
const memo = (f, cache = new Map()) => (n) => cache.has(n) ? cache.get(n) : (cache.set(n, f(n)), cache.get(n));
const fib = memo((n) => (n < 2 ? n : fib(n - 1) + fib(n - 2)));
console.log(fib(78));
