function* take(n, it) { for (const x of it) { if (n-- <= 0) return; yield x; } }
function* naturals() { let n = 0; while (true) yield n++; }
console.log([...take(5, naturals())], Array.from(take(3, 'añ日b')));
const range = { from: 3, to: 6, *[Symbol.iterator]() { for (let v = this.from; v <= this.to; v++) yield v; } };
console.log(Math.max(...range));
async function* ticks() { for (const n of [1, 2, 3]) { await null; yield n * n; } }
(async () => { for await (const n of ticks()) console.log('tick', n); })();
