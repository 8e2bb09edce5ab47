// Workers, async and stock: what they run, and how they are.
import { get } from "../state/api.js";
import { bytes, count, milliseconds, seconds } from "../state/format.js";
import { evaluationOf } from "../state/ids.js";
import { usePolled } from "../state/polling.js";
import { plain } from "../state/reveal.js";
import { hrefOf } from "../state/router.js";
import { Badge, Empty, Figure, Meter, Problem, Title } from "../ui/parts.js";
import { html } from "../html.js";

const EVERY_MS = 4000;
const TONES = { online: "good", trouble: "poor", silent: "fair", closed: "good", open: "poor", "half-open": "fair", half_open: "fair" };

export function Workers() {
  const { data, error } = usePolled(async (signal) => {
    const [list, ready] = await Promise.all([get("/api/v1/workers", { signal }), get("/ready", { signal }).catch((problem) => problem.document ?? null)]);
    return { workers: list.workers, ready };
  }, EVERY_MS);
  if (!data) return html`<${Title} text="Workers" /><${Problem} error=${error} />`;
  const { workers, ready } = data;
  const running = workers.reduce((sum, one) => sum + (one.active ?? 0), 0);
  const slots = workers.reduce((sum, one) => sum + (one.concurrency ?? 0), 0);
  return html`<${Title} text="Workers"><a class="button" href="/flower/">Flower</a><//><${Problem} error=${error} />
    <div class="figures">
      <${Figure} name="online" value=${count(workers.filter((one) => one.status === "online").length)} />
      <${Figure} name="tasks running" value=${`${count(running)} of ${count(slots)}`} />
      <${Figure} name="sandboxes ready" value=${count(ready?.sandboxes.idle)} />
      <${Figure} name="programs without a sandbox" value=${count(ready?.sandboxes.waiting)} tone=${ready?.sandboxes.waiting ? "warn" : ""} />
      <${Figure} name="lanes idle" value=${count(ready ? (ready.lanes.idle ?? 0) + (ready.lanes.fresh ?? 0) : null)} />
    </div>
    ${workers.length ? html`<div class="columns">${workers.map((one) => html`<${Worker} key=${one.name} worker=${one} />`)}</div>`
      : html`<div class="card"><${Empty} title="No worker is connected" command="crucible worker">What is accepted waits until one is. Start one:<//></div>`}
    ${ready && Object.keys(ready.circuits).length ? html`<section class="card"><h2>Circuits of all of them</h2><${Circuits} circuits=${ready.circuits} /></section>` : null}
    ${ready ? html`<section class="card"><h2>What they depend on</h2><dl class="facts">${Object.entries(ready.dependencies).map(([name, one]) => html`<dt key=${name}>${name.replaceAll("_", " ")}</dt><dd><${Badge} name=${one.ok ? "answers" : "does not answer"} tone=${one.ok ? "good" : "poor"} /> <span class="muted">${plain(one.detail ?? "")}</span></dd>`)}</dl></section>` : null}`;
}

function Circuits({ circuits }) {
  return html`<div class="row wrap">${Object.entries(circuits).map(([name, state]) => html`<span key=${name} class="row"><span class="mono">${plain(name)}</span><${Badge} name=${state} tone=${TONES[state] ?? ""} /></span>`)}</div>`;
}

const RUNNING = 8;
const STATES = ["idle", "busy", "preparing", "settling", "parked", "waiting", "unusual"];
const LANE_STATES = ["fresh", "idle", "busy", "preparing", "settling", "parked", "waiting"];
const PARTS = { idle: "run", fresh: "compile", busy: "queued", preparing: "sandbox", settling: "sandbox" };

/** How many are in each state, as one bar; nothing where there are none. */
function States({ title, states }) {
  const shown = Object.entries(states).filter(([, number]) => number > 0);
  if (!shown.length) return null;
  return html`<div class="stack tight"><div class="timeline" role="img" aria-label=${`${title}: ${shown.map(([state, number]) => `${number} ${state}`).join(", ")}`}>
      ${shown.map(([state, number]) => html`<i key=${state} class=${`p-${PARTS[state] ?? "rest"}`} style=${{ flex: `${number} 1 0` }}></i>`)}</div>
    <div class="key"><span class="muted">${title}</span>${shown.map(([state, number]) => html`<span key=${state}><i class=${`p-${PARTS[state] ?? "rest"}`}></i>${state} <strong class="num">${count(number)}</strong></span>`)}</div></div>`;
}

function Worker({ worker }) {
  const busy = worker.concurrency ? (worker.active ?? 0) / worker.concurrency : 0;
  const sandboxes = Object.fromEntries(STATES.map((state) => [state, worker.gauges[state] ?? 0]));
  const lanes = Object.fromEntries(LANE_STATES.map((state) => [state, worker.gauges[`lanes ${state}`] ?? 0]));
  const took = worker.gauges["worker service_ms"];
  return html`<section class="card"><div class="head-line"><h2 class="cut mono">${plain(worker.name)}</h2><${Badge} name=${worker.status} tone=${TONES[worker.status]} /></div>
    ${worker.detail ? html`<p class="bad">${plain(worker.detail)}</p>` : null}
    <div class="row"><span class="muted">${worker.kind}${worker.pool ? `, ${plain(worker.pool)}` : ""}</span><span class="grow"><${Meter} share=${busy} label="Slots in use" /></span><span class="num">${count(worker.active)} of ${count(worker.concurrency)}</span></div>
    <${States} title="Sandboxes" states=${sandboxes} /><${States} title="Lanes" states=${lanes} />
    <dl class="facts"><dt>Queues</dt><dd>${worker.queues.map(plain).join(", ") || "–"}</dd>
      ${"worker claimed" in worker.gauges ? html`<dt>Holds</dt><dd class="num">${count(worker.gauges["worker claimed"])} messages</dd>` : null}
      ${took ? html`<dt>A task takes</dt><dd class="num">${milliseconds(took)} on average</dd>` : null}
      ${"compile_cache_bytes" in worker.gauges ? html`<dt>Compile cache</dt><dd class="num">${bytes(worker.gauges.compile_cache_bytes)}</dd>` : null}</dl>
    ${Object.keys(worker.circuits).length ? html`<${Circuits} circuits=${worker.circuits} />` : null}
    ${worker.running.length ? html`<h3>Running</h3><ul class="stack tight">${worker.running.slice(0, RUNNING).map((task) => html`<li key=${task.id} class="row"><span class="cut grow mono">${evaluationOf(task.id) ? html`<a href=${hrefOf(["evaluations", evaluationOf(task.id)])}>${plain(task.id)}</a>` : plain(task.id)}</span><span class="muted small cut">${plain(task.name)}</span>
      <span class="num small">${task.started_at && task.started_at > 1e9 ? seconds(Date.now() / 1000 - task.started_at) : ""}</span></li>`)}</ul>
      ${worker.running.length > RUNNING ? html`<p class="muted small">and ${worker.running.length - RUNNING} more</p>` : null}` : null}</section>`;
}
