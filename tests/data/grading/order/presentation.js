const numbers = require("fs").readFileSync(0, "utf8").trim().split(/\s+/).map(Number);
let total = numbers.slice(1).sort((a, b) => a - b);
console.log(total.join(" ") + " ");
