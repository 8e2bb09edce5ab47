console.log("started");
const kept: number[][] = [];
for (;;) kept.push(new Array(1 << 16).fill(1.5));
