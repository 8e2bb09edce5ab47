// The list of evaluations: it updates itself, its filters are in the URL, and many can be selected.
import { useSignal } from "@preact/signals";
import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { api, get } from "../state/api.js";
import { milliseconds } from "../state/format.js";
import { notify } from "../state/notices.js";
import { usePolled } from "../state/polling.js";
import { plain } from "../state/reveal.js";
import { go, hrefOf, place, replaceQuery } from "../state/router.js";
import { ENDED, STATUS_NAMES, VERDICT_NAMES, wordsOf } from "../state/words.js";
import { Badge, Copy, Empty, Meter, Problem, Select, Title, When } from "../ui/parts.js";
import { Rows } from "../ui/rows.js";
import { useKeys } from "../ui/shortcuts.js";
import { html } from "../html.js";

const FILTERS = ["q", "status", "verdict", "language", "queue"];
const QUEUES = ["high_priority", "evaluation", "batch", "maintenance", "gpu_queue"];
const LANGUAGES = ["python", "javascript", "bash", "c", "cpp", "go", "rust", "java"];
const PAGE = 100;
const NEXT = 500;
const EVERY_MS = 3000;

const pathOf = (filters, limit, cursor = "") => {
  const query = new URLSearchParams({ ...filters, limit, ...(cursor ? { cursor } : {}) });
  return `/api/eval?${query}`;
};

/** The newest on top of what is listed, each evaluation once and in its latest state. */
export function merged(listed, latest) {
  const fresh = new Map(latest.map((one) => [one.eval_id, one]));
  const kept = listed.filter((one) => !fresh.has(one.eval_id));
  const oldest = latest.at(-1)?.created_at ?? "";
  const newer = kept.filter((one) => one.created_at > oldest && !fresh.has(one.eval_id));
  const older = kept.filter((one) => !newer.includes(one));
  return [...latest, ...newer, ...older].sort((a, b) => (a.created_at < b.created_at ? 1 : a.created_at > b.created_at ? -1 : 0));
}

/** The list with its newest page; where more have come than fit in one, it begins anew from there. */
function renewed(listed, page, cursor) {
  const known = new Set(listed.map((one) => one.eval_id));
  if (listed.length && page.next_cursor && !page.items.some((one) => known.has(one.eval_id))) {
    cursor.next = page.next_cursor;
    return page.items;
  }
  return merged(listed, page.items);
}

function useList(filters) {
  const identity = JSON.stringify(filters);
  const [rows, setRows] = useState([]);
  const [held, setHeld] = useState(null);
  const atTop = useRef(true);
  const cursor = useRef({ identity: "", next: null, asking: false });
  const { data, error, again } = usePolled((signal) => get(pathOf(filters, PAGE), { signal }), EVERY_MS, [identity]);
  useEffect(() => {
    setRows([]);
    setHeld(null);
    atTop.current = true;
    cursor.current = { identity, next: null, asking: false };
  }, [identity]);
  useEffect(() => {
    if (!data) return;
    const first = cursor.current.next === null && !cursor.current.asking;
    if (first) cursor.current.next = data.next_cursor;
    setRows((old) => {
      if (!old.length || atTop.current) return renewed(old, data, cursor.current);
      // Nothing moves under somebody who reads further down: what is new waits for a click.
      const known = new Set(old.map((one) => one.eval_id));
      const fresh = data.items.filter((one) => !known.has(one.eval_id));
      setHeld(fresh.length ? data : null);
      return merged(old, data.items.filter((one) => known.has(one.eval_id)));
    });
  }, [data]);
  const more = async () => {
    const place = cursor.current;
    if (place.asking || !place.next) return;
    place.asking = true;
    try {
      const page = await get(pathOf(filters, NEXT, place.next));
      if (cursor.current !== place) return;
      place.next = page.next_cursor;
      setRows((old) => merged(page.items, old));
    } catch (error) {
      if (error.status === 422) place.next = null;
    } finally {
      place.asking = false;
    }
  };
  const release = () => {
    if (held) setRows((old) => renewed(old, held, cursor.current));
    setHeld(null);
  };
  const top = (is) => {
    atTop.current = is;
    if (is) release();
  };
  return { rows, held, release, top, more, error, again, asked: data !== null };
}

export function Evaluations() {
  const query = place.value.query;
  const filters = Object.fromEntries(FILTERS.map((name) => [name, query.get(name) ?? ""]).filter(([, value]) => value));
  for (const [name, value] of query) if (name.startsWith("metadata.")) filters[name] = value;
  const list = useList(filters);
  const [selected, setSelected] = useState(new Set());
  // A signal: keys may come faster than the page is drawn.
  const current = useSignal(-1);
  const rows = useMemo(() => list.rows.map((one) => ({ ...one, id: one.eval_id })), [list.rows]);
  useEffect(() => {
    setSelected(new Set());
    current.value = -1;
  }, [JSON.stringify(filters)]);
  const toggle = useCallback((id) => setSelected((old) => {
    const next = new Set(old);
    if (!next.delete(id)) next.add(id);
    return next;
  }), []);
  const open = (row) => go(["evaluations", row.id]);
  useKeys({
    j: () => (current.value = Math.min(rows.length - 1, current.value + 1)),
    k: () => (current.value = Math.max(0, current.value - 1)),
    x: () => rows[current.value] && toggle(rows[current.value].id),
    Enter: () => rows[current.value] && open(rows[current.value]),
    Escape: () => setSelected(new Set()),
  });
  const set = (name) => (value) => replaceQuery({ [name]: value });
  const options = (names, any) => [["", any], ...names.map((name) => [name, wordsOf(name)])];
  const filtered = Object.keys(filters).length > 0;
  return html`<${Title} text="Evaluations"><a class="button primary" href="#/submit">Submit</a><//>
    <div class="filters" role="group" aria-label="Filters">
      <${Text} value=${filters.q ?? ""} onChange=${set("q")} />
      <${Select} label="Status" value=${filters.status ?? ""} options=${options(STATUS_NAMES, "any status")} onChange=${set("status")} />
      <${Select} label="Verdict" value=${filters.verdict ?? ""} options=${options(VERDICT_NAMES, "any verdict")} onChange=${set("verdict")} />
      <${Select} label="Language" value=${filters.language ?? ""} options=${options(LANGUAGES, "any language")} onChange=${set("language")} />
      <${Select} label="Queue" value=${filters.queue ?? ""} options=${options(QUEUES, "any queue")} onChange=${set("queue")} />
      ${filtered ? html`<button type="button" class="button plain" onClick=${() => go(["evaluations"])}>Clear</button><${Copy} label="Copy link" slim=${false} text=${() => location.href} />` : null}
    </div>
    ${list.error?.setting ? null : html`<${Problem} error=${list.error} />`}
    <section class="card flush pane">
      ${selected.size ? html`<${Bulk} rows=${rows.filter((one) => selected.has(one.id))} done=${() => {
        setSelected(new Set());
        list.again();
      }} />` : null}
      ${list.held ? html`<button type="button" class="button primary newer" onClick=${() => list.top(true)}>Show newer evaluations</button>` : null}
      ${rows.length ? html`<${Rows} rows=${rows} columns="evals" current=${current.value} selected=${selected} label="Evaluations" onOpen=${open} onEnd=${list.more} onTop=${list.top}
          head=${html`<${Head} rows=${rows} selected=${selected} setSelected=${setSelected} />`} draw=${(row, index) => html`<${Row} row=${row} chosen=${selected.has(row.id)} onToggle=${() => {
            toggle(row.id);
            current.value = index;
          }} />`} />`
        : html`<${Nothing} list=${list} filtered=${filtered} />`}
    </section>
    <p class="muted small num" role="status">${rows.length ? `${rows.length.toLocaleString("en")} listed, newest first` : ""}</p>`;
}

function Text({ value, onChange }) {
  return html`<input class="input" type="search" aria-label="Id or words of the metadata" placeholder="id or metadata" value=${value} onChange=${(event) => onChange(event.currentTarget.value.trim())} />`;
}

function Nothing({ list, filtered }) {
  if (list.error?.setting) return html`<${Empty} title="No history is kept here" command=${`CRUCIBLE_HISTORY_URL=sqlite:////var/lib/crucible/history.sqlite crucible api`}>The list comes from the history. Set it up and run a historian beside the api; ${" "}<code>crucible up</code> does both.<//>`;
  if (!list.asked) return html`<p class="empty">Asking…</p>`;
  if (filtered) return html`<${Empty} title="Nothing fits these filters">Take one away, or look for another id.<//>`;
  return html`<${Empty} title="No evaluations yet" command=${`curl -sS '${location.origin}/api/eval?wait=20' \\\n  -H 'Content-Type: application/json' -d '{"code":"print(6*7)"}'`}>Submit a program in the editor, or from a terminal:<//>`;
}

function Head({ rows, selected, setSelected }) {
  const all = rows.length > 0 && rows.every((one) => selected.has(one.id));
  const cells = [["Id"], ["Status", "roomy"], ["Verdict"], ["Language", "roomy"], ["Queue", "roomy"]];
  return html`<span role="columnheader"><input type="checkbox" aria-label="Select all that are listed" checked=${all} onChange=${() => setSelected(all ? new Set() : new Set(rows.map((one) => one.id)))} /></span>
    ${cells.map(([name, where]) => html`<span role="columnheader" key=${name} class=${where}>${name}</span>`)}<span role="columnheader" class="right roomy">Took</span><span role="columnheader" class="right">Accepted</span>`;
}

/** A phone has room for one of status and verdict: the verdict as soon as there is one. */
function Row({ row, chosen, onToggle }) {
  return html`<span role="cell"><input type="checkbox" aria-label=${`Select ${row.id}`} checked=${chosen} onChange=${onToggle} /></span>
    <span role="cell" class="cut"><a class="mono" href=${hrefOf(["evaluations", row.id])} title=${row.id}>${row.id}</a></span>
    <span role="cell" class=${row.verdict ? "roomy" : ""}><${Badge} name=${row.status} /></span>
    <span role="cell" class=${row.verdict ? "cut" : "cut roomy"}>${row.verdict ? html`<${Badge} name=${row.verdict} />` : html`<span class="muted">–</span>`}</span>
    <span role="cell" class="cut roomy">${plain(row.language || "–")}</span><span role="cell" class="cut muted roomy">${plain(row.queue || "–")}</span>
    <span role="cell" class="right num roomy">${milliseconds(row.timing_ms?.total)}</span><span role="cell" class="right muted"><${When} at=${row.created_at} /></span>`;
}

const AT_ONCE = 4;

/** What can be done with many at once, one request each, with how far it is. */
function Bulk({ rows, done }) {
  const [progress, setProgress] = useState(null);
  const ended = rows.filter((one) => ENDED.has(one.status));
  const open = rows.filter((one) => !ENDED.has(one.status));
  const all = async (targets, method, path, word) => {
    let finished = 0;
    let failed = 0;
    setProgress({ finished, total: targets.length });
    const left = [...targets];
    const work = async () => {
      for (let one = left.shift(); one; one = left.shift()) {
        try {
          await api(method, `/api/eval/${encodeURIComponent(one.id)}${path}`);
        } catch {
          failed += 1;
        }
        finished += 1;
        setProgress({ finished, total: targets.length });
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    setProgress(null);
    notify(`${finished - failed} ${word}${failed ? `, ${failed} could not be` : ""}.`, { poor: failed > 0 });
    done();
  };
  return html`<div class="bar" role="group" aria-label="Selected evaluations"><strong class="num">${rows.length} selected</strong>
    ${progress ? html`<div class="grow"><${Meter} share=${progress.finished / progress.total} label="Done" /></div><span class="num">${progress.finished} of ${progress.total}</span>` : html`
      <button type="button" class="button slim" disabled=${!ended.length} onClick=${() => all(ended, "POST", "/retry", "run again")}>Retry ${ended.length || ""}</button>
      <button type="button" class="button slim danger" disabled=${!open.length} onClick=${() => all(open, "DELETE", "", "cancelled")}>Cancel ${open.length || ""}</button>
      <button type="button" class="button plain slim" onClick=${done}>Clear selection</button>`}</div>`;
}
