// Keys of the whole console. Screens add their own with useKeys.
import { useEffect, useRef } from "preact/hooks";
import { go } from "../state/router.js";

const GOALS = { s: "submit", e: "evaluations", q: "queues", w: "workers", d: "dead-letters", m: "migration", a: "assessments", h: "webhooks", k: "keys" };
export const HELP = [
  ["/", "find by id, or filter the list"],
  ["j, k", "next, previous row"],
  ["x", "select the row"],
  ["Enter", "open the row"],
  ["g, then s e q w d m a h k", "go to submit, evaluations, queues, workers, dead letters, migration, assessments, webhooks, keys"],
  ["Ctrl Enter", "run the program in the editor"],
  ["Ctrl M", "in the editor: whether Tab indents or leaves it"],
  ["Esc", "close what is open"],
  ["?", "this list"],
];

const typing = (target) => target.closest?.("input, textarea, select, [contenteditable]") && target.type !== "checkbox";

/** Call `handlers[key]` when a key is pressed that nobody types with. */
export function useKeys(handlers) {
  const latest = useRef(handlers);
  latest.current = handlers;
  useEffect(() => {
    const pressed = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target) || document.querySelector("dialog[open]")) return;
      const handler = latest.current[event.key];
      if (!handler || event.defaultPrevented) return;
      if (event.key === "Enter" && event.target.closest?.("a, button, summary")) return;
      event.preventDefault();
      handler(event);
    };
    document.addEventListener("keydown", pressed);
    return () => document.removeEventListener("keydown", pressed);
  }, []);
}

let waiting = 0;

export function useGlobalKeys(showHelp) {
  useKeys({
    "/": () => document.querySelector("#find").focus(),
    "?": showHelp,
    g: () => {
      waiting = Date.now();
    },
  });
  useEffect(() => {
    const second = (event) => {
      if (Date.now() - waiting > 1500 || typing(event.target) || event.ctrlKey || event.metaKey) return;
      if (!(event.key in GOALS)) return;
      waiting = 0;
      event.preventDefault();
      event.stopImmediatePropagation();
      go([GOALS[event.key]]);
    };
    document.addEventListener("keydown", second, true);
    return () => document.removeEventListener("keydown", second, true);
  }, []);
}
