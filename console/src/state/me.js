// Who uses the console, and what this installation has.
import { signal } from "@preact/signals";
import { get } from "./api.js";

export const me = signal(null);

export async function readMe() {
  try {
    me.value = await get("/api/v1/me");
  } catch (error) {
    if (error.status === 401) me.value = null;
  }
}

export const may = (scope) => me.value?.scopes.includes(scope) ?? false;
