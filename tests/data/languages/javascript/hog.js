console.log("started");
const kept = [];
for (;;) kept.push(new Array(1 << 16).fill(1.5));
