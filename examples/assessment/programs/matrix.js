// The product of two matrices with known sums.
const n = 60;
const a = Array.from({ length: n }, (_, i) => Array.from({ length: n }, (_, j) => (i + j) % 7));
let sum = 0;
for (let i = 0; i < n; i++)
  for (let j = 0; j < n; j++) for (let k = 0; k < n; k++) sum += a[i][k] * a[k][j];
console.log(sum > 0 ? "done" : "wrong");
