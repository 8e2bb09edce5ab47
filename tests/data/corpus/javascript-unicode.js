for (const text of ['naïve', 'Straße', '日本語', '👩‍👩‍👧', 'e\u0301']) {
  console.log(text, text.length, [...text].length, Buffer.byteLength(text), text.normalize('NFC').toUpperCase());
}
console.log('ﬁ'.normalize('NFKD'), encodeURIComponent('ü&€'), '\u{1F680}'.codePointAt(0).toString(16));
