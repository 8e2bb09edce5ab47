const readline = require('readline');
const reader = readline.createInterface({ input: process.stdin });
let number = 0;
let total = 0;
reader.on('line', (line) => {
  number += 1;
  const value = Number(line);
  if (Number.isNaN(value)) console.error(`line ${number}: not a number: ${line}`);
  else total += value;
});
reader.on('close', () => console.log(`${number} lines, total ${total}`));
