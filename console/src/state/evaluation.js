// One evaluation, followed until it has ended.
import { useEffect, useState } from "preact/hooks";
import { get, healed } from "./api.js";
import { follow } from "./events.js";
import { ENDED } from "./words.js";

const LOOK_MS = 3000;
const TOGETHER_MS = 150;

/** {evaluation, error, again}: changes arrive by events; a look now and then covers for them. */
export function useEvaluation(id) {
  const [state, setState] = useState({ evaluation: null, error: null });
  const [round, setRound] = useState(0);
  useEffect(() => {
    const stop = new AbortController();
    const path = `/api/eval/${encodeURIComponent(id)}`;
    let timer = 0;
    let following = false;
    const look = async () => {
      clearTimeout(timer);
      timer = 0;
      try {
        const evaluation = await get(path, { signal: stop.signal });
        if (stop.signal.aborted) return;
        setState({ evaluation, error: null });
        if (ENDED.has(evaluation.status)) return stop.abort();
        if (!following) {
          following = true;
          follow(`${path}/events`, happened, stop.signal);
        }
      } catch (error) {
        if (stop.signal.aborted) return;
        setState((old) => ({ evaluation: old.evaluation, error }));
        if (error.status === 404 || error.status === 401) return;
      }
      timer ||= setTimeout(look, LOOK_MS);
    };
    const happened = (_, event) => {
      if (stop.signal.aborted) return;
      setState((old) => (old.evaluation && event.status ? { ...old, evaluation: { ...old.evaluation, status: ENDED.has(event.status) ? old.evaluation.status : event.status } } : old));
      // Events come in bursts: one look answers for all of them.
      clearTimeout(timer);
      timer = setTimeout(look, TOGETHER_MS);
    };
    setState((old) => (old.evaluation?.eval_id === id ? old : { evaluation: null, error: null }));
    look();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [id, round, healed.value]);
  return { ...state, again: () => setRound((n) => n + 1) };
}
