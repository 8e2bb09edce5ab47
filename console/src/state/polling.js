// Asking again and again, gently: never faster than every two seconds, never from a hidden tab.
import { useEffect, useRef, useState } from "preact/hooks";
import { healed } from "./api.js";

const LEAST_MS = 2000;

/** The latest answer of `ask(signal)`: {data, error, again}. Asked anew when `inputs` change. */
export function usePolled(ask, everyMs, inputs = []) {
  const [state, setState] = useState({ data: null, error: null });
  const again = useRef(() => {});
  useEffect(() => {
    const stop = new AbortController();
    let timer = 0;
    const look = async () => {
      clearTimeout(timer);
      if (!document.hidden) {
        try {
          const data = await ask(stop.signal);
          if (!stop.signal.aborted) setState({ data, error: null });
        } catch (error) {
          if (stop.signal.aborted) return;
          setState((old) => ({ data: old.data, error }));
        }
      }
      if (everyMs && !stop.signal.aborted) timer = setTimeout(look, Math.max(LEAST_MS, everyMs));
    };
    const shown = () => document.hidden || look();
    again.current = look;
    look();
    document.addEventListener("visibilitychange", shown);
    return () => {
      stop.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", shown);
    };
  }, [...inputs, healed.value]);
  return { ...state, again: () => again.current() };
}
