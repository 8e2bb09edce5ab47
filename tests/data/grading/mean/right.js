const numbers = require("fs").readFileSync(0, "utf8").trim().split(/\s+/).map(Number);
let total = numbers.slice(1).reduce((a, b) => a + b, 0) / numbers[0];
console.log(total.toFixed(9));
