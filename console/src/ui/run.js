// A run as it happens, and what came of it.
import { api } from "../state/api.js";
import { useEvaluation } from "../state/evaluation.js";
import { attempt, notify } from "../state/notices.js";
import { hrefOf } from "../state/router.js";
import { ENDED } from "../state/words.js";
import { Text } from "./output.js";
import { Badge, Meter, Problem } from "./parts.js";
import { Ending, Outputs, TestTable, Ticks } from "./happened.js";
import { html } from "../html.js";

const STEPS = ["queued", "running", "done"];

export function Steps({ evaluation }) {
  const at = ENDED.has(evaluation.status) ? 2 : evaluation.status === "queued" ? 0 : 1;
  return html`<ol class="steps" aria-label="Progress">${STEPS.map((name, index) => html`<li key=${name} class=${index < at || at === 2 ? "past" : index === at ? "now" : ""}>${name}</li>`)}</ol>`;
}

export function Progress({ evaluation }) {
  const progress = evaluation.progress;
  if (ENDED.has(evaluation.status) || !progress) return null;
  return html`<div class="stack tight"><${Meter} share=${progress.tests_done / progress.tests_total} label="Tests done" />
    <${Ticks} done=${progress.tests_done} total=${progress.tests_total} />
    <p class="muted num">${progress.tests_done} of ${progress.tests_total} tests done, ${progress.passed} passed</p></div>`;
}

/** What a program has written so far; the whole of it comes with its end. */
export function Live({ evaluation }) {
  if (ENDED.has(evaluation.status) || !evaluation.output) return null;
  return html`<section class="stack tight"><h3>Output so far</h3><${Text} text=${evaluation.output} label="Output so far" follow /></section>`;
}

export async function cancel(id) {
  await attempt(async () => {
    await api("DELETE", `/api/eval/${encodeURIComponent(id)}`);
    notify("Cancelled.");
  });
}

export function Run({ id }) {
  const { evaluation, error, again } = useEvaluation(id);
  if (!evaluation) return html`<div class="card"><${Problem} error=${error} />${error ? null : html`<p class="muted">Asking…</p>`}</div>`;
  const ended = ENDED.has(evaluation.status);
  return html`<section class="card" aria-label="Run" aria-live="polite">
    <div class="head-line"><div class="row wrap"><${Badge} name=${ended ? evaluation.verdict ?? evaluation.status : evaluation.status} /><${Steps} evaluation=${evaluation} /></div>
      <div class="row">${ended ? null : html`<button type="button" class="button slim danger" onClick=${async () => {
        await cancel(id);
        again();
      }}>Cancel</button>`}
      <a class="button slim" href=${hrefOf(["evaluations", id])}>What happened</a></div></div>
    <${Progress} evaluation=${evaluation} />
    <${Live} evaluation=${evaluation} />
    ${ended ? html`<${Ending} evaluation=${evaluation} />${evaluation.tests ? html`<${TestTable} evaluation=${evaluation} />` : html`<${Outputs} evaluation=${evaluation} />`}` : null}
  </section>`;
}
