const text = require('fs').readFileSync(0, 'utf8');
const tree = JSON.parse(text);
const depth = (node) => 1 + Math.max(0, ...(node.children ?? []).map(depth));
const names = (node) => [node.name, ...(node.children ?? []).flatMap(names)];
console.log(JSON.stringify({ depth: depth(tree), names: names(tree) }, null, 1));
console.log(JSON.stringify({ u: undefined, d: new Date(0), n: NaN, s: '\u2028"' }));
