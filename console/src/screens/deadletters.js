// Dead letters: messages that could not be run, why, and putting them back.
import { useSignal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { api, get } from "../state/api.js";
import { attempt, notify } from "../state/notices.js";
import { evaluationOf } from "../state/ids.js";
import { usePolled } from "../state/polling.js";
import { plain } from "../state/reveal.js";
import { hrefOf } from "../state/router.js";
import { confirmed } from "../ui/dialog.js";
import { Text } from "../ui/output.js";
import { Badge, Copy, Empty, Meter, Problem, Title, When } from "../ui/parts.js";
import { useKeys } from "../ui/shortcuts.js";
import { html } from "../html.js";

const EVERY_MS = 5000;
const PAGE = 100;

export function DeadLetters() {
  const [older, setOlder] = useState([]);
  const [selected, setSelected] = useState(new Set());
  const current = useSignal(-1);
  const [opened, setOpened] = useState(null);
  const [progress, setProgress] = useState(null);
  const { data, error, again } = usePolled((signal) => get(`/api/v1/dlq?limit=${PAGE}`, { signal }), EVERY_MS);
  const first = data?.dead_letters ?? [];
  const known = new Set(first.map((one) => one.id));
  const letters = [...first, ...older.flatMap((page) => page.dead_letters).filter((one) => !known.has(one.id))];
  const before = older.length ? older.at(-1).before : data?.before;
  const toggle = (id) => setSelected((old) => {
    const next = new Set(old);
    if (!next.delete(id)) next.add(id);
    return next;
  });
  useKeys({
    j: () => (current.value = Math.min(letters.length - 1, current.value + 1)),
    k: () => (current.value = Math.max(0, current.value - 1)),
    x: () => letters[current.value] && toggle(letters[current.value].id),
    Enter: () => letters[current.value] && setOpened((old) => (old === letters[current.value].id ? null : letters[current.value].id)),
  });
  useEffect(() => {
    document.querySelector("tr.current")?.scrollIntoView({ block: "nearest" });
  }, [current.value]);
  const forEach = async (ids, action, word) => {
    let finished = 0;
    let failed = 0;
    for (const id of ids) {
      setProgress({ finished, total: ids.length });
      try {
        await action(id);
      } catch {
        failed += 1;
      }
      finished += 1;
    }
    setProgress(null);
    setSelected(new Set());
    setOlder([]);
    notify(`${finished - failed} ${word}${failed ? `, ${failed} could not be` : ""}.`, { poor: failed > 0 });
    again();
  };
  const replay = (ids) => forEach(ids, (id) => api("POST", `/api/v1/dlq/${id}/replay`), "put back into their queues");
  const remove = async (ids) => {
    if (await confirmed(`Delete ${ids.length} dead letter${ids.length > 1 ? "s" : ""}?`, "Their messages are gone for good, and can no longer be replayed.", "Delete")) {
      await forEach(ids, (id) => api("DELETE", `/api/v1/dlq/${id}`), "deleted");
    }
  };
  const chosen = letters.filter((one) => selected.has(one.id)).map((one) => one.id);
  const all = letters.length > 0 && chosen.length === letters.length;
  return html`<${Title} text="Dead letters">${letters.length ? html`<button type="button" class="button" disabled=${progress !== null} onClick=${() => replay(letters.map((one) => one.id))}>Replay all ${letters.length}</button>` : null}<//>
    <${Problem} error=${error} />
    <section class="card flush">
      ${progress ? html`<div class="bar" role="status"><span class="num">${progress.finished} of ${progress.total}</span><div class="grow"><${Meter} share=${progress.finished / progress.total} label="Done" /></div></div>`
        : chosen.length ? html`<div class="bar" role="group" aria-label="Selected dead letters"><strong class="num">${chosen.length} selected</strong><button type="button" class="button slim" onClick=${() => replay(chosen)}>Replay</button><button type="button" class="button slim danger" onClick=${() => remove(chosen)}>Delete</button></div>` : null}
      ${letters.length ? html`<div class="scroll" tabindex="0" role="region" aria-label="Dead letters"><table class="rows"><thead><tr><th scope="col" class="fit"><input type="checkbox" aria-label="Select all that are listed" checked=${all} onChange=${() => setSelected(all ? new Set() : new Set(letters.map((one) => one.id)))} /></th><th scope="col">Task</th><th scope="col">Reason</th><th scope="col">Queue</th><th scope="col" class="right">Attempts</th><th scope="col" class="right">When</th><th scope="col"><span class="hidden-label">Actions</span></th></tr></thead>
        <tbody>${letters.map((letter, index) => html`<${Letter} key=${letter.id} letter=${letter} current=${index === current.value} chosen=${selected.has(letter.id)} open=${opened === letter.id}
          onToggle=${() => toggle(letter.id)} onOpen=${() => setOpened(opened === letter.id ? null : letter.id)} onReplay=${() => replay([letter.id])} onRemove=${() => remove([letter.id])} />`)}</tbody></table></div>
        ${before ? html`<div class="bar"><button type="button" class="button slim" onClick=${() => attempt(async () => setOlder([...older, await get(`/api/v1/dlq?limit=${PAGE}&before=${before}`)]))}>Older ones</button></div>` : null}`
        : data ? html`<${Empty} title="No dead letters" command="crucible dlq list">Everything that was accepted has been run, or still can be. From a terminal:<//>` : null}
    </section>`;
}

function Letter({ letter, current, chosen, open, onToggle, onOpen, onReplay, onRemove }) {
  const name = letter.task_id || letter.id;
  return html`<tr class=${current ? "current" : ""} aria-selected=${chosen ? "true" : "false"}><td class="fit"><input type="checkbox" aria-label=${`Select ${plain(name)}`} checked=${chosen} onChange=${onToggle} /></td>
      <td><button type="button" class="button plain slim mono" aria-expanded=${open} onClick=${onOpen}>${plain(name).slice(0, 60)}</button></td>
      <td><${Badge} name=${letter.reason} tone="poor" /></td><td class="muted">${plain(letter.queue)}</td><td class="right num">${letter.attempts ?? "–"}</td><td class="right muted fit"><${When} at=${letter.at} /></td>
      <td class="fit right"><button type="button" class="button slim" onClick=${onReplay} aria-label=${`Replay ${plain(name)}`}>Replay</button> <button type="button" class="button slim danger" onClick=${onRemove} aria-label=${`Delete ${plain(name)}`}>Delete</button></td></tr>
    ${open ? html`<tr><td colspan="7"><${Detail} letter=${letter} /></td></tr>` : null}`;
}

function Detail({ letter }) {
  const message = typeof letter.message === "string" ? letter.message : JSON.stringify(letter.message, null, 2);
  const body = decoded(letter.message);
  return html`<div class="stack"><p>${plain(letter.detail)}</p>
    <dl class="facts"><dt>Task</dt><dd class="mono">${plain(letter.task || "–")}</dd><dt>Letter</dt><dd class="mono">${letter.id}</dd>${evaluationOf(letter.task_id) ? html`<dt>Evaluation</dt><dd><a class="mono" href=${hrefOf(["evaluations", evaluationOf(letter.task_id)])}>${plain(evaluationOf(letter.task_id))}</a></dd>` : null}</dl>
    ${body ? html`<div class="head-line"><h3>What it asks for</h3><${Copy} text=${body} /></div><${Text} text=${body} label="Decoded body" />` : null}
    <div class="head-line"><h3>Message</h3><${Copy} text=${message} /></div><${Text} text=${message} label="Message" /></div>`;
}

/** The body of a Celery message as readable JSON; empty where it is none. */
function decoded(message) {
  if (typeof message !== "object" || message === null || typeof message.body !== "string") return "";
  try {
    const raw = message.properties?.body_encoding === "base64" ? new TextDecoder().decode(Uint8Array.from(atob(message.body), (letter) => letter.charCodeAt(0))) : message.body;
    return JSON.stringify(JSON.parse(raw), null, 2);
  } catch {
    return "";
  }
}
