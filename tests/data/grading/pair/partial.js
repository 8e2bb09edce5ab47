const numbers = require("fs").readFileSync(0, "utf8").trim().split(/\s+/).map(Number);
let total = [1, numbers[0] - 1];
total = [1];
console.log(total.join(" "));
