const line = 'level=warn msg="disk \\"sda\\" at 91%" host=db-1 t=2024-02-29';
for (const { groups: { key, quoted, bare } } of line.matchAll(/(?<key>\w+)=(?:"(?<quoted>(?:\\.|[^"])*)"|(?<bare>\S+))/g)) {
  console.log(key.padEnd(6), quoted ?? bare);
}
console.log('2024-02-29'.replace(/(\d+)-(\d+)-(\d+)/, '$3.$2.$1'), /\p{Lu}/u.exec('abÇd').index, 'a1b22'.split(/\d+/));
