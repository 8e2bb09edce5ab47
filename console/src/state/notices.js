// Short messages at the edge of the screen; some with a way to undo what they tell of.
import { signal } from "@preact/signals";

export const notices = signal([]);
const SHOWN_MS = 7000;
let last = 0;

export function notify(text, { poor = false, undo = null } = {}) {
  const id = ++last;
  notices.value = [...notices.value.slice(-3), { id, text, poor, undo }];
  setTimeout(() => dismiss(id), SHOWN_MS);
}

export function dismiss(id) {
  notices.value = notices.value.filter((one) => one.id !== id);
}

/** Do something, and say in words when it fails; resolves with its result, or undefined. */
export async function attempt(action) {
  try {
    return await action();
  } catch (error) {
    notify(error.message, { poor: true });
    return undefined;
  }
}
