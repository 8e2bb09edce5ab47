const numbers = require("fs").readFileSync(0, "utf8").trim().split(/\s+/).map(Number);
let total = [];
for (let d = 1; d <= numbers[0]; d++) if (numbers[0] % d === 0) total.unshift(d);
for (const d of total) console.log(d);
