// What programs write, made fit to be looked at: characters that would act on the page or on the
// eye are shown as what they are.

// Bidirectional controls, zero-width characters and other invisible ones can make text look like
// something that it is not.
const INVISIBLE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u115f\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e01ef}]/gu;

/** Pieces of a text: strings, and {code} for each character that is invisible. */
export function revealed(text) {
  const pieces = [];
  let end = 0;
  for (const match of text.matchAll(INVISIBLE)) {
    if (match.index > end) pieces.push(text.slice(end, match.index));
    pieces.push({ code: match[0].codePointAt(0) });
    end = match.index + match[0].length;
  }
  if (end < text.length) pieces.push(text.slice(end));
  return pieces;
}

/** How such a character is written: control characters by their symbols, others by number. */
export function nameOf(code) {
  if (code < 0x20) return String.fromCodePoint(0x2400 + code);
  if (code === 0x7f) return "\u2421";
  return `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
}

/** A text in one line, for lists: nothing invisible in it. */
export function plain(text) {
  return revealed(String(text)).map((piece) => (typeof piece === "string" ? piece : nameOf(piece.code))).join("");
}

/** The bytes of a field that came as text or as base64. */
export function bytesOf(text, encoding) {
  if (encoding !== "base64") return new TextEncoder().encode(text);
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}
