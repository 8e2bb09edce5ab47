import { readFileSync } from "fs";

const words: string[] = readFileSync(0, "utf8").split(/\s+/).filter(Boolean);
console.log(words.map(Number).reduce((a: number, b: number) => a + b, 0));
