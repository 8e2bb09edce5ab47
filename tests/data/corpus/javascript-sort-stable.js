const people = [
  { name: 'Ida', age: 31 }, { name: 'Bo', age: 25 }, { name: 'Eva', age: 31 },
  { name: 'Axel', age: 25 }, { name: 'Siv', age: 40 },
];
console.log(people.sort((a, b) => a.age - b.age).map((p) => p.name).join(' '));
console.log([10, 9, 1, 2].sort().join(), [10, 9, 1, 2].sort((a, b) => a - b).join());
function mergeSort(list) {
  if (list.length < 2) return list;
  const middle = list.length >> 1;
  const left = mergeSort(list.slice(0, middle));
  const right = mergeSort(list.slice(middle));
  const merged = [];
  while (left.length && right.length) merged.push((left[0] <= right[0] ? left : right).shift());
  return [...merged, ...left, ...right];
}
console.log(mergeSort(Array.from({ length: 20 }, (_, i) => (i * 7919) % 101)).join(' '));
