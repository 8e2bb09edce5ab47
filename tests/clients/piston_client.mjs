// What the package piston-client makes of a service; run where npm has installed it.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [server, home, corpusFile] = process.argv.slice(2);
const entry = createRequire(`${home}/package.json`).resolve("piston-client");
const { piston } = await import(pathToFileURL(entry));
const corpus = JSON.parse(readFileSync(corpusFile, "utf8"));
const client = piston({ server });
const said = {};
for (const { language, code, stdin } of corpus.good) {
  const found = await client.execute(language, code, { stdin, runTimeout: 10000 });
  said[language] = found.run.stdout;
}
for (const name of ["failing", "endless"]) {
  const { run } = await client.execute("python", corpus[name].code);
  said[name] = [run.stdout, run.code, run.signal];
}
const broken = await client.execute("c", corpus.broken.code);
said.broken = broken.compile.code;
said.unknown = (await client.execute("cobol", "x", { version: "*" })).message;
console.log(JSON.stringify(said));
