// The migration off the legacy queue: where it stands, how both sides do, and the way back.
import { useEffect, useRef, useState } from "preact/hooks";
import { api, get } from "../state/api.js";
import { count, percent, rate, seconds } from "../state/format.js";
import { attempt, notify } from "../state/notices.js";
import { usePolled } from "../state/polling.js";
import { plain } from "../state/reveal.js";
import { hrefOf } from "../state/router.js";
import { confirmed } from "../ui/dialog.js";
import { Text } from "../ui/output.js";
import { Badge, Empty, Field, Figure, Problem, Title, When } from "../ui/parts.js";
import { html } from "../html.js";

const EVERY_MS = 3000;
const MEANINGS = {
  legacy_only: "Everything goes to the legacy queue.", celery_primary: "Everything goes to Celery.",
  celery_only: "Everything goes to Celery.", split: "Each evaluation goes to one side, by its id.",
  dual_write: "The legacy queue answers; Celery gets a copy of each, and both are compared.",
};

export function Migration() {
  const earlier = useRef([]);
  const { data, error, again } = usePolled(async (signal) => {
    const [status, sides, found] = await Promise.all([get("/api/v1/migration", { signal }), get("/api/v1/migration/sides", { signal }), get("/api/v1/migration/mismatches?limit=50", { signal })]);
    earlier.current = [...earlier.current.slice(-60), sides];
    return { status, sides: earlier.current, mismatches: found.mismatches };
  }, EVERY_MS);
  if (!data) return html`<${Title} text="Migration" /><${Problem} error=${error} />`;
  const { status } = data;
  const change = async (fields, said) => {
    const { switches } = status;
    const before = Object.fromEntries(Object.keys(fields).map((name) => [name, switches[name]]));
    await attempt(async () => {
      const after = await api("PUT", "/api/v1/migration", { ...fields, reason: "console", expected_revision: switches.revision });
      notify(said, { undo: () => attempt(async () => {
        await api("PUT", "/api/v1/migration", { ...before, reason: "console: undo", expected_revision: after.switches.revision });
        again();
      }) });
      again();
    });
  };
  if (!status.legacy_configured) {
    return html`<${Title} text="Migration" /><div class="card"><${Empty} title="There is no legacy queue" command="QUEUE_SERVICE_URL=http://legacy:8080 CELERY_PERCENTAGE=0.0 crucible api">Everything goes to Celery. To move off a legacy queue step by step, start the api beside it:<//></div>`;
  }
  return html`<${Title} text="Migration"><${Badge} name=${status.mode} tone="live" /><${Rollback} status=${status} change=${change} /><//>
    <${Problem} error=${error} />
    ${status.forced ? html`<div class="problem">FORCE_LEGACY_QUEUE in the environment of this api overrules the switches.</div>` : null}
    ${status.stored ? null : html`<div class="problem">A rollback is in force here that could not be stored yet.</div>`}
    <div class="columns"><${Switches} status=${status} change=${change} /><${Compared} status=${status} /></div>
    <${Sides} looks=${data.sides} circuits=${status.circuits} />
    <${Mismatches} mismatches=${data.mismatches} />
    <${Audit} entries=${status.audit} />`;
}

function Rollback({ status, change }) {
  const back = async () => {
    if (await confirmed("Roll back?", "Every new evaluation goes to the legacy queue at once, in every api process. What Celery has is still run.", "Roll back")) {
      await change({ force_legacy_queue: true, dual_write: false }, "Rolled back: everything goes to the legacy queue.");
    }
  };
  if (status.switches.force_legacy_queue) return html`<button type="button" class="button" onClick=${() => change({ force_legacy_queue: false }, "The switches decide again.")}>End the rollback</button>`;
  return html`<button type="button" class="button danger" onClick=${back}>Roll back</button>`;
}

function Switches({ status, change }) {
  const { switches } = status;
  const [share, setShare] = useState(switches.celery_percentage);
  const [touched, setTouched] = useState(false);
  useEffect(() => {
    if (!touched) setShare(switches.celery_percentage);
  }, [switches.celery_percentage, touched]);
  const set = async (value) => {
    await change({ celery_percentage: value, ...(switches.celery_enabled ? {} : { celery_enabled: true }) }, `${percent(value)} of new evaluations go to Celery.`);
    setTouched(false);
  };
  return html`<section class="card"><h2>Traffic</h2><p class="muted">${MEANINGS[status.mode] ?? ""}</p>
    <${Field} label=${`To Celery: ${percent(share)}`}><input type="range" min="0" max="100" step="1" value=${Math.round(share * 100)} aria-valuetext=${percent(share)}
      onInput=${(event) => {
        setTouched(true);
        setShare(Number(event.currentTarget.value) / 100);
      }} /><//>
    <div class="row wrap">${[0, 0.01, 0.1, 0.5, 1].map((value) => html`<button key=${value} type="button" class="button slim" onClick=${() => set(value)}>${percent(value)}</button>`)}<span class="grow"></span>
      ${touched ? html`<button type="button" class="button" onClick=${() => setTouched(false)}>Discard</button><button type="button" class="button primary" onClick=${() => set(share)}>Send ${percent(share)} to Celery</button>` : null}</div>
    <label class="check"><input type="checkbox" checked=${switches.dual_write} onChange=${() => change({ dual_write: !switches.dual_write, ...(switches.dual_write ? {} : { celery_percentage: 0 }) }, switches.dual_write ? "Copies are no longer sent." : "Celery gets a copy of each evaluation.")} /> Send Celery a copy of everything, and compare (dual write)</label>
    <p class="muted small">Revision ${switches.revision}${switches.by ? html`, by ${plain(switches.by)}` : ", from the environment"}${switches.changed_at ? html`, <${When} at=${switches.changed_at} />` : null}${switches.reason ? `: ${plain(switches.reason)}` : ""}</p></section>`;
}

function Compared({ status }) {
  const counts = { ...(status.compared ?? {}) };
  return html`<section class="card"><h2>Compared</h2><div class="figures">${["equal", "nondeterministic", "incomparable", "mismatch"].filter((kind) => kind in counts || kind === "equal" || kind === "mismatch").map((kind) => html`<${Figure} key=${kind} name=${kind} value=${count(counts[kind] ?? 0)} tone=${kind === "mismatch" && counts[kind] ? "bad" : ""} />`)}</div>
    <p class="muted small">${count(status.following)} evaluations are followed. Copies: ${Object.entries(status.copies).map(([name, number]) => `${name} ${count(number)}`).join(", ") || "none"}.</p></section>`;
}

const WINDOW_S = 60;

/** Rate, share of failures and 99th percentile between two looks. */
export function between(before, after, seconds_) {
  const ended = sum(after.statuses) - sum(before?.statuses ?? {});
  const failed = (after.statuses.failed ?? 0) - (before?.statuses.failed ?? 0);
  const bounds = after.durations.map(([bound, number], index) => [bound, number - (before?.durations[index]?.[1] ?? 0)]);
  const all = bounds.at(-1)?.[1] ?? 0;
  const reached = bounds.find(([, number]) => number >= 0.99 * all);
  return { ended, rate: seconds_ > 0 ? ended / seconds_ : null, errors: ended ? failed / ended : null, p99: all && reached ? reached[0] : null };
}

const sum = (counts) => Object.values(counts).reduce((total, number) => total + number, 0);

function Sides({ looks, circuits }) {
  const last = looks.at(-1);
  const before = looks.find((one) => last.at - one.at <= WINDOW_S) ?? last;
  const recent = last.at - before.at;
  const rows = ["legacy", "celery"].map((name) => {
    const side = last.sides[name];
    return [name, side ? between(before.sides[name], side, recent) : null, side ? between(null, side, 0) : null];
  });
  const p99 = (bound) => (bound === null ? "–" : bound === "+Inf" ? "> 2 min" : `≤ ${seconds(Number(bound))}`);
  return html`<section class="card flush"><div class="head-line"><h2>Both sides</h2><span class="muted small">rate and last minute since this page was opened, and all that has ended</span></div>
    <div class="scroll" tabindex="0" role="region" aria-label="Both sides"><table class="rows"><thead><tr><th scope="col">Side</th><th scope="col" class="right">Rate</th><th scope="col" class="right">Errors, last minute</th><th scope="col" class="right">P99, last minute</th><th scope="col" class="right">Ended in all</th><th scope="col" class="right">Errors in all</th><th scope="col" class="right">P99 of all</th><th scope="col">Circuit</th></tr></thead>
    <tbody>${rows.map(([name, now, all]) => html`<tr key=${name}><td><strong>${name}</strong></td><td class="right num">${rate(now?.rate ?? null)}</td><td class="right num">${now?.errors == null ? "–" : percent(now.errors)}</td><td class="right num">${p99(now?.p99 ?? null)}</td>
      <td class="right num" data-side=${name}>${count(all?.ended ?? 0)}</td><td class="right num">${all?.errors == null ? "–" : percent(all.errors)}</td><td class="right num">${p99(all?.p99 ?? null)}</td><td>${circuits[name] ? html`<${Badge} name=${circuits[name]} tone=${circuits[name] === "closed" ? "good" : "poor"} />` : "–"}</td></tr>`)}</tbody></table></div></section>`;
}

function Mismatches({ mismatches }) {
  const real = mismatches.filter((one) => one.comparison.kind !== "equal");
  return html`<section class="card"><h2>Mismatches</h2>${real.length ? real.map((one) => html`<details key=${`${one.eval_id} ${one.at}`}><summary><span class="mono">${plain(one.eval_id)}</span> <${Badge} name=${one.comparison.kind} tone=${one.comparison.kind === "mismatch" ? "poor" : "fair"} /> <span class="muted">${one.comparison.differences.map((difference) => difference.field).join(", ")} · ${plain(one.language)} · <${When} at=${one.at} /></span></summary>
      <div class="stack" style=${{ marginTop: "8px" }}><p><a href=${hrefOf(["evaluations", one.eval_id])}>What happened</a>${one.confirmed ? ". It was run again, and differed each time." : ". It was not run again."}</p>
      ${one.comparison.differences.map((difference) => html`<${Difference} key=${difference.field} difference=${difference} />`)}</div></details>`)
    : html`<p class="muted">None. Switch dual write on to have each evaluation run by both sides and compared.</p>`}</section>`;
}

function Difference({ difference }) {
  const shown = (value) => (typeof value === "string" ? value : JSON.stringify(value));
  return html`<div class="stack tight"><h3>${difference.field.replaceAll("_", " ")}${difference.at == null ? "" : html` <span class="muted small">from byte ${count(difference.at)} on</span>`}</h3>
    <div class="diff"><div class="stack tight"><span class="muted small">legacy</span><${Text} text=${shown(difference.legacy)} label=${`${difference.field} of the legacy queue`} /></div>
    <div class="stack tight"><span class="muted small">Celery</span><${Text} text=${shown(difference.celery)} label=${`${difference.field} of Celery`} /></div></div></div>`;
}

function Audit({ entries }) {
  if (!entries.length) return null;
  return html`<section class="card flush"><div class="head-line"><h2>Changes</h2></div><div class="scroll" tabindex="0" role="region" aria-label="Changes"><table class="rows"><thead><tr><th scope="col">Revision</th><th scope="col">When</th><th scope="col">Who</th><th scope="col">Mode</th><th scope="col">Why</th></tr></thead>
    <tbody>${entries.map((one) => html`<tr key=${one.revision}><td class="num">${one.revision}</td><td><${When} at=${one.at} /></td><td>${plain(one.by)}</td><td>${one.mode_from ? `${one.mode_from.replaceAll("_", " ")} → ` : ""}${one.mode_to.replaceAll("_", " ")} <span class="muted num">${percent(one.after.celery_percentage)}</span></td><td>${plain(one.reason)}</td></tr>`)}</tbody></table></div></section>`;
}
