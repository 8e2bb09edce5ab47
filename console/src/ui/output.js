// What a program wrote: text and nothing else. Long output is drawn only where it is looked at, and
// a line too long to draw is cut until somebody asks for more.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { bytes } from "../state/format.js";
import { bytesOf, nameOf, revealed } from "../state/reveal.js";
import { html } from "../html.js";
import { Copy } from "./parts.js";

const LINE = 18;
const AHEAD = 30;
const CUT = 2000;
const MORE = 20_000;

/** One line; invisible characters are shown by name. */
function Line({ text }) {
  const [shown, setShown] = useState(CUT);
  const cut = text.length > shown;
  return html`<div class="line">${revealed(cut ? text.slice(0, shown) : text).map((piece) =>
      typeof piece === "string" ? piece : html`<span class="ctl" title=${`character U+${piece.code.toString(16).toUpperCase().padStart(4, "0")}`}>${nameOf(piece.code)}</span>`)}
    ${cut ? html` <button type="button" class="button slim" onClick=${() => setShown(shown + MORE)}>… ${(text.length - shown).toLocaleString("en")} more characters</button>` : null}</div>`;
}

/** The lines in view of many. */
function Lines({ lines, label, follow = false }) {
  const box = useRef(null);
  useEffect(() => {
    if (follow) box.current.scrollTop = box.current.scrollHeight;
  }, [lines, follow]);
  const [top, setTop] = useState(0);
  const height = 420;
  const first = Math.max(0, Math.floor(top / LINE) - AHEAD);
  const last = Math.min(lines.length, Math.ceil((top + height) / LINE) + AHEAD);
  return html`<div class="output" ref=${box} tabindex="0" role="region" aria-label=${label} onScroll=${() => setTop(box.current.scrollTop)}>
    <div class="space" style=${{ height: `${lines.length * LINE}px` }}>
      <div class="at" style=${{ top: `${first * LINE}px` }}>
        ${lines.slice(first, last).map((text, index) => html`<${Line} key=${first + index} text=${text} />`)}
      </div></div></div>`;
}

/** A text in a box. */
export function Text({ text, label, follow }) {
  const lines = useMemo(() => text.replace(/\n$/, "").split("\n"), [text]);
  return html`<${Lines} lines=${lines} label=${label} follow=${follow} />`;
}

function save(name, content) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type: "application/octet-stream" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/** The output or error output of a program, to be copied or saved. */
export function Output({ title, text, encoding = "utf-8", truncated = false, name = "output" }) {
  const content = useMemo(() => bytesOf(text, encoding), [text, encoding]);
  const shown = useMemo(() => (encoding === "base64" ? hexdump(content) : text), [text, encoding]);
  const size = bytes(content.length);
  return html`<section class="stack tight"><div class="head-line">
      <h3>${title} <span class="muted small">${size}${encoding === "base64" ? ", not text" : ""}${truncated ? ", cut at its limit" : ""}</span></h3>
      <div class="row">${text ? html`<${Copy} text=${text} />
        <button type="button" class="button slim" onClick=${() => save(`${name}.txt`, content)}>Download</button>` : null}</div></div>
    ${text ? html`<${Text} text=${shown} label=${title} />` : html`<p class="muted">Nothing was written.</p>`}</section>`;
}

const DUMPED = 4096;

/** Bytes that are no text, as offsets and numbers. */
function hexdump(content) {
  const lines = [];
  for (let at = 0; at < Math.min(content.length, DUMPED); at += 16) {
    const part = [...content.subarray(at, at + 16)];
    const numbers = part.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const letters = part.map((byte) => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : "."));
    lines.push(`${at.toString(16).padStart(8, "0")}  ${numbers.padEnd(47)}  ${letters.join("")}`);
  }
  if (content.length > DUMPED) lines.push(`… ${bytes(content.length - DUMPED)} more; download it to see them`);
  return lines.join("\n");
}

export { save };
