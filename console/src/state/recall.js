// The program on the editor, and those this tab has submitted: an evaluation keeps its own content
// only once it has ended.
import { signal } from "@preact/signals";
import { emptyDraft } from "./programs.js";

const STORED = "crucible.draft";
const KEPT = 50;

export const draft = signal(read());
const submitted = new Map();

function read() {
  try {
    return JSON.parse(sessionStorage.getItem(STORED)) ?? emptyDraft();
  } catch {
    return emptyDraft();
  }
}

export function setDraft(value) {
  draft.value = value;
  try {
    sessionStorage.setItem(STORED, JSON.stringify(value));
  } catch {
    // Too large to keep; it is still in the editor.
  }
}

export function remember(id, body) {
  submitted.set(id, body);
  if (submitted.size > KEPT) submitted.delete(submitted.keys().next().value);
}

export const recalled = (id) => submitted.get(id) ?? null;
