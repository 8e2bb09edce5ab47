// What happened to an evaluation: verdict in words, where the time went, what was used.
import { kib, milliseconds } from "../state/format.js";
import { meaningOf, signalName, toneOf, wordsOf } from "../state/words.js";
import { plain } from "../state/reveal.js";
import { Output, Text } from "./output.js";
import { Badge, Meter } from "./parts.js";
import { html } from "../html.js";

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1).replace(/([^.!?])$/, "$1.");

export function Ending({ evaluation }) {
  const verdict = evaluation.verdict ?? evaluation.status;
  const more = [];
  if (evaluation.message) more.push(sentence(plain(evaluation.message)));
  if (evaluation.signal) more.push(`Signal ${signalName(evaluation.signal)}.`);
  if (evaluation.exit_code && !evaluation.message?.includes(String(evaluation.exit_code))) more.push(`Exit code ${evaluation.exit_code}.`);
  if (evaluation.total !== undefined && !evaluation.message) more.push(`${evaluation.passed} of ${evaluation.total} tests passed${evaluation.score === undefined ? "" : `, score ${+evaluation.score.toFixed(3)}`}.`);
  return html`<p>${meaningOf(verdict)} <span class="muted">${more.join(" ")}</span></p>`;
}

const PARTS = [["queued", "queued"], ["sandbox", "sandbox"], ["compile", "compile"], ["run", "run"], ["rest", "rest"]];

/** Where the time went, as one bar; `rest` is sending and storing. */
export function Timeline({ evaluation }) {
  const timing = evaluation.timing_ms;
  if (!timing) return html`<p class="muted">No times are known yet.</p>`;
  const compile = evaluation.compile && !evaluation.compile.cached ? evaluation.compile.usage?.wall_time_ms ?? 0 : 0;
  const known = { queued: timing.queued, sandbox: timing.sandbox, compile, run: timing.run };
  const spent = Object.values(known).reduce((sum, ms) => sum + ms, 0);
  const parts = { ...known, rest: Math.max(0, timing.total - spent) };
  const shown = PARTS.filter(([name]) => parts[name] > 0);
  return html`<div class="stack tight">
    <div class="timeline" role="img" aria-label=${shown.map(([name, text]) => `${text} ${milliseconds(parts[name])}`).join(", ")}>
      ${shown.map(([name]) => html`<i key=${name} class=${`p-${name}`} style=${{ flex: `${parts[name]} 1 0` }} title=${`${name} ${milliseconds(parts[name])}`}></i>`)}</div>
    <div class="key">${shown.map(([name, text]) => html`<span key=${name}><i class=${`p-${name}`}></i>${text} <strong class="num">${milliseconds(parts[name])}</strong></span>`)}
      <span class="muted">total <strong class="num">${milliseconds(timing.total)}</strong></span></div></div>`;
}

const USUAL = { wall_time_s: 10, cpu_time_s: 10, memory_mb: 256, pids: 64, output_kb: 1024 };

/** Usage beside the limits that applied; without a known request the usual ones. */
export function Usage({ evaluation, limits }) {
  const usage = evaluation.usage;
  if (!usage) return html`<p class="muted">Nothing was used: it did not run.</p>`;
  const most = { ...USUAL, ...Object.fromEntries(Object.entries(limits ?? {}).filter(([, value]) => value !== null)) };
  const rows = [
    ["Wall time", usage.wall_time_ms / (most.wall_time_s * 1000), milliseconds(usage.wall_time_ms), milliseconds(most.wall_time_s * 1000)],
    ["CPU time", usage.cpu_time_ms / (most.cpu_time_s * 1000), milliseconds(usage.cpu_time_ms), milliseconds(most.cpu_time_s * 1000)],
    ["Memory", usage.memory_peak_kb / (most.memory_mb * 1024), kib(usage.memory_peak_kb), kib(most.memory_mb * 1024)],
    ...(usage.processes ? [["Processes", usage.processes / most.pids, String(usage.processes), String(most.pids)]] : []),
  ];
  return html`<div class="meters">${rows.map(([name, share, used, limit]) => html`<span key=${name}>${name}</span><${Meter} full share=${share} label=${`${name}: ${used} of ${limit}`} /><span class="num">${used} <span class="muted">of ${limit}</span></span>`)}</div>`;
}

export function Outputs({ evaluation }) {
  return html`<${Output} title="Output" name=${`${evaluation.eval_id}-output`} text=${evaluation.output} encoding=${evaluation.output_encoding} truncated=${evaluation.output_truncated} />
    ${evaluation.error ? html`<${Output} title="Error output" name=${`${evaluation.eval_id}-error`} text=${evaluation.error} encoding=${evaluation.error_encoding} truncated=${evaluation.output_truncated} />` : null}`;
}

const SQUARES = 200;

export function Ticks({ done = 0, total = 0, tests = null }) {
  const many = Math.min(SQUARES, tests?.length ?? total);
  return html`<div class="ticks" aria-hidden="true">${Array.from({ length: many }, (_, index) => html`<i key=${index} class=${tests ? toneOf(tests[index].verdict) : index < done ? "done" : ""} title=${tests ? `${plain(tests[index].id)}: ${wordsOf(tests[index].verdict)}` : undefined}></i>`)}</div>`;
}

const LISTED = 200;
const BEGINNING = 18;
const beginning = (text) => plain(text.slice(0, BEGINNING)) + (text.length > BEGINNING ? "…" : "");

export function TestTable({ evaluation }) {
  const tests = evaluation.tests;
  return html`<div class="stack tight"><${Ticks} tests=${tests} />
    <div class="scroll"><table class="rows"><thead><tr><th scope="col">Test</th><th scope="col">Verdict</th><th scope="col" class="right">Points</th><th scope="col" class="right">Time</th><th scope="col" class="right">Memory</th><th scope="col">Output</th></tr></thead>
    <tbody>${tests.slice(0, LISTED).map((one) => html`<tr key=${one.id}><td class="mono">${plain(one.id)}</td><td><${Badge} name=${one.verdict} /></td><td class="right num">${one.points}</td><td class="right num">${milliseconds(one.usage?.wall_time_ms)}</td><td class="right num">${kib(one.usage?.memory_peak_kb)}</td>
      <td>${one.output || one.error ? html`<details><summary class="mono">${beginning(one.output || one.error)}</summary>${one.output ? html`<${Text} text=${one.output} label=${`Output of test ${one.id}`} />` : null}${one.error ? html`<${Text} text=${one.error} label=${`Error output of test ${one.id}`} />` : null}</details>` : html`<span class="muted">–</span>`}${one.message ? html`<p class="muted small">${plain(one.message)}</p>` : null}</td></tr>`)}</tbody></table></div>
    ${tests.length > LISTED ? html`<p class="muted">The first ${LISTED} of ${tests.length} tests are listed; the API has all of them.</p>` : null}</div>`;
}
