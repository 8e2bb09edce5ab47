const fs = require("fs");
let kept = "";
function readLine() {
  const piece = Buffer.alloc(4096);
  while (!kept.includes("\n")) {
    const size = fs.readSync(0, piece);
    if (!size) break;
    kept += piece.toString("utf8", 0, size);
  }
  const [line] = kept.split("\n");
  kept = kept.slice(line.length + 1);
  return line;
}
let low = 0, high = 1000, answer = "";
while (answer !== "yes") {
  const guess = high;
  fs.writeSync(1, `${guess}\n`);
  answer = readLine();
  if (answer === "low") low = guess + 1;
  else high = guess - 1;
}
