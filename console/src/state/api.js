// Requests to the API. The key travels in a header field and is never part of a URL.
import { signal } from "@preact/signals";

const STORED = "crucible.key";
const HEAL_MS = 2000;
const DEADLINE_MS = 30_000;

/** The key, kept for this tab only; empty without one. */
export const key = signal(sessionStorage.getItem(STORED) ?? "");
/** Whether the last request reached the API. */
export const online = signal(true);
/** Counts how often the API came back: lists ask again when it changes. */
export const healed = signal(0);
/** Why a key is asked for; empty while none is. */
export const keyWanted = signal("");

/** An answer that is no success, in the words of its problem document. */
export class ApiError extends Error {
  constructor(status, document, retryAfter) {
    super(document.detail || document.title || `HTTP ${status}`);
    this.status = status;
    this.title = document.title ?? "";
    this.errors = document.errors ?? [];
    this.setting = document.setting ?? "";
    this.retryAfter = retryAfter;
  }
}

export function setKey(text) {
  key.value = text;
  if (text) sessionStorage.setItem(STORED, text);
  else sessionStorage.removeItem(STORED);
  keyWanted.value = "";
  healed.value += 1;
}

export function fieldsOfRequest(more = {}) {
  return key.value ? { Authorization: `Bearer ${key.value}`, ...more } : more;
}

/** Send a request; resolves with the JSON of a success, rejects with an ApiError. */
export async function api(method, path, body, options = {}) {
  const headers = fieldsOfRequest(body === undefined ? {} : { "Content-Type": "application/json" });
  let response;
  try {
    response = await fetch(path, {
      method, headers, cache: "no-store", signal: deadline(options.signal),
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    wentAway();
    throw new ApiError(0, { title: "Not reachable", detail: "the api does not answer; it is asked again until it does" });
  }
  online.value = true;
  return answerOf(response);
}

/** A request that gets no answer counts as one that fails. */
function deadline(signal) {
  const late = AbortSignal.timeout(DEADLINE_MS);
  return signal ? AbortSignal.any([signal, late]) : late;
}

export const get = (path, options) => api("GET", path, undefined, options);

/** The text of a success, for what is no JSON. */
export async function text(path) {
  const response = await fetch(path, { headers: fieldsOfRequest(), cache: "no-store", signal: deadline() });
  if (!response.ok) return answerOf(response);
  return response.text();
}

async function answerOf(response) {
  const text = response.status === 204 ? "" : await response.text();
  let document = null;
  try {
    document = text ? JSON.parse(text) : null;
  } catch {
    document = { detail: "the answer is not JSON" };
  }
  if (response.ok && (document !== null || !text)) return document;
  if (response.status === 401) wantKey(document);
  throw new ApiError(response.status, document ?? {}, Number(response.headers.get("Retry-After")) || null);
}

function wantKey(document) {
  keyWanted.value = key.value ? "The key is not valid. Enter another one." : document?.detail ?? "A key is needed.";
}

let healing = false;

async function wentAway() {
  online.value = false;
  if (healing) return;
  healing = true;
  while (!online.value) {
    await new Promise((resolve) => setTimeout(resolve, HEAL_MS));
    try {
      const response = await fetch("/health", { cache: "no-store" });
      online.value = response.ok;
    } catch {
      // Still away.
    }
  }
  healing = false;
  healed.value += 1;
}
