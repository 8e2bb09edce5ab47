const inventory = new Map([['pear', 3], ['fig', 7]]);
inventory.set('pear', inventory.get('pear') + 1).set(NaN, 'odd').delete('fig');
console.log([...inventory], inventory.size, inventory.get(NaN));
const [left, right] = [new Set('mississippi'), new Set('istanbul')];
console.log([...left].filter((x) => right.has(x)).sort().join(''), [...new Set([...left, ...right])].join(''));
const groups = {};
for (const word of 'one two three four five six'.split(' ')) (groups[word.length] ??= []).push(word);
console.log(groups);
console.log(Object.entries({ b: 1, a: 2, 2: 'two', 1: 'one' }).flat().join(' '));
