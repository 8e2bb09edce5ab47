// Queues: what waits where, for how long, and how fast evaluations end.
import { useMemo } from "preact/hooks";
import { api, get } from "../state/api.js";
import { count, rate, seconds } from "../state/format.js";
import { attempt, notify } from "../state/notices.js";
import { usePolled } from "../state/polling.js";
import { confirmed } from "../ui/dialog.js";
import { Spark } from "../ui/chart.js";
import { Figure, Problem, Title } from "../ui/parts.js";
import { html } from "../html.js";

const EVERY_MS = 5000;

export function Queues() {
  const { data, error, again } = usePolled(async (signal) => {
    const [census, recent] = await Promise.all([get("/api/v1/queues", { signal }), get("/api/v1/queues/recent", { signal })]);
    return { census, recent };
  }, EVERY_MS);
  const series = useMemo(() => (data ? seriesOf(data.recent.samples) : null), [data]);
  if (!data) return html`<${Title} text="Queues" /><${Problem} error=${error} />`;
  const { census, recent } = data;
  const waiting = census.queues.reduce((sum, one) => sum + one.waiting, 0);
  const oldest = Math.max(0, ...Object.values(recent.oldest_age_s));
  const purge = async (queue) => {
    const yes = await confirmed(`Purge ${queue.name}?`, `${count(queue.waiting)} messages are deleted for good, and their evaluations end as cancelled. This cannot be undone.`, "Delete them");
    if (!yes) return;
    await attempt(async () => {
      const { dropped } = await api("POST", `/api/v1/queues/${queue.name}/purge`);
      notify(`${count(dropped)} messages deleted from ${queue.name}.`);
      again();
    });
  };
  return html`<${Title} text="Queues" /><${Problem} error=${error} />
    <div class="figures">
      <${Figure} name="messages waiting" value=${count(waiting)} />
      <${Figure} name="oldest wait" value=${waiting ? seconds(oldest) : "–"} tone=${oldest > 60 ? "warn" : ""} />
      <${Figure} name="held or delayed" value=${count(census.claimed)} />
      <${Figure} name="ended, last minute" value=${rate(series.rate)} />
      <${Figure} name="dead letters" value=${html`<a href="#/dead-letters">${count(census.dead_letters)}</a>`} tone=${census.dead_letters ? "bad" : ""} />
    </div>
    <div class="columns">
      <section class="card"><div class="head-line"><h2>Ended a second</h2><span class="muted small">last ten minutes</span></div>
        <${Spark} xs=${series.between} ys=${series.rates} height=${72} label=${`Evaluations ended a second, now ${rate(series.rate)}`} /></section>
      <section class="card"><div class="head-line"><h2>Waiting</h2><span class="muted small">last ten minutes</span></div>
        <${Spark} xs=${series.xs} ys=${series.waiting} height=${72} tone="--part-sandbox" label=${`Messages waiting, now ${count(waiting)}`} /></section>
    </div>
    <section class="card flush"><div class="scroll" tabindex="0" role="region" aria-label="Queues"><table class="rows"><thead><tr><th scope="col">Queue</th><th scope="col" class="right">Waiting</th><th scope="col">By priority step</th><th scope="col" class="right">Oldest</th><th scope="col">Last ten minutes</th><th scope="col"><span class="hidden-label">Actions</span></th></tr></thead>
      <tbody>${census.queues.map((queue) => html`<tr key=${queue.name}><td><strong>${queue.name}</strong></td><td class="right num">${count(queue.waiting)}</td>
        <td class="num muted">${Object.entries(queue.by_step).filter(([, waits]) => waits).map(([step, waits]) => `${step}: ${count(waits)}`).join("   ") || "–"}</td>
        <td class="right num">${queue.waiting && queue.name in recent.oldest_age_s ? seconds(recent.oldest_age_s[queue.name]) : "–"}</td>
        <td style=${{ width: "180px" }}><${Spark} xs=${series.xs} ys=${series.queues[queue.name] ?? []} height=${26} tone="--part-queued" label=${`${queue.name}: ${count(queue.waiting)} waiting now`} /></td>
        <td class="fit right"><button type="button" class="button slim danger" disabled=${!queue.waiting} onClick=${() => purge(queue)} aria-label=${`Purge ${queue.name}`}>Purge</button></td></tr>`)}</tbody></table></div></section>
    <p class="muted small">Step 0 is served first. Queues are served in this order.</p>`;
}

const MINUTE_S = 60;

/** Columns of numbers for the charts. */
export function seriesOf(samples) {
  const xs = samples.map((one) => one.at);
  const names = Object.keys(samples.at(-1)?.waiting ?? {});
  const queues = Object.fromEntries(names.map((name) => [name, samples.map((one) => one.waiting[name] ?? 0)]));
  const waiting = samples.map((one) => Object.values(one.waiting).reduce((sum, waits) => sum + waits, 0));
  const pairs = samples.slice(1).map((one, index) => [samples[index], one]).filter(([before, after]) => after.at > before.at);
  const rates = pairs.map(([before, after]) => Math.max(0, after.ended - before.ended) / (after.at - before.at));
  const last = samples.at(-1);
  const before = samples.find((one) => last && last.at - one.at <= MINUTE_S);
  const rateNow = last && before && last.at > before.at ? Math.max(0, last.ended - before.ended) / (last.at - before.at) : null;
  return { xs, queues, waiting, between: pairs.map(([, after]) => after.at), rates, rate: rateNow };
}
