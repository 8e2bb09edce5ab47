// Dialogs, and the question before what cannot be undone.
import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { html } from "../html.js";

const asked = signal(null);

/** Ask before something destructive; resolves with whether to go on. */
export function confirmed(title, text, verb) {
  return new Promise((resolve) => {
    asked.value = { title, text, verb, resolve };
  });
}

export function Dialog({ title, onClose, children }) {
  const box = useRef(null);
  useEffect(() => {
    const before = document.activeElement;
    box.current.showModal();
    return () => before?.focus?.();
  }, []);
  const closed = (event) => {
    event.preventDefault();
    onClose();
  };
  return html`<dialog ref=${box} aria-labelledby="dialog-title" onCancel=${closed} onClose=${closed}>
    <div class="stack"><h2 id="dialog-title">${title}</h2>${children}</div></dialog>`;
}

/** Shows the question of `confirmed`; once in the page. */
export function Confirmation() {
  const question = asked.value;
  if (!question) return null;
  const answer = (yes) => {
    asked.value = null;
    question.resolve(yes);
  };
  return html`<${Dialog} title=${question.title} onClose=${() => answer(false)}>
    <p>${question.text}</p>
    <div class="row"><span class="grow"></span>
      <button type="button" class="button" autofocus onClick=${() => answer(false)}>Keep it</button>
      <button type="button" class="button danger" onClick=${() => answer(true)}>${question.verb}</button></div>
  <//>`;
}
