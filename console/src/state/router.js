// The place in the console, kept in the fragment of the URL: links can be shared, and the server
// never sees what is in them.
import { signal } from "@preact/signals";

/** {path: ["evaluations", "ID"], query: URLSearchParams} */
export const place = signal(read());

function read() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  return { path: (path || "submit").split("/").map(decodeURIComponent), query: new URLSearchParams(query) };
}

addEventListener("hashchange", () => {
  place.value = read();
});

export function hrefOf(path, query = {}) {
  const kept = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const text = new URLSearchParams(kept).toString();
  return `#/${path.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

export function go(path, query) {
  location.hash = hrefOf(path, query);
}

/** Change the query without a step in the browser's history. */
export function replaceQuery(changes) {
  const { path, query } = place.value;
  const href = hrefOf(path, { ...Object.fromEntries(query), ...changes });
  history.replaceState(null, "", href);
  place.value = read();
}
