// Assessments: suites of evaluations, how far they are, what came of them, and what has changed.
import { useEffect, useRef, useState } from "preact/hooks";
import { api, get, text } from "../state/api.js";
import { count, kib, milliseconds, percent } from "../state/format.js";
import { attempt } from "../state/notices.js";
import { usePolled } from "../state/polling.js";
import { plain } from "../state/reveal.js";
import { go, hrefOf } from "../state/router.js";
import { ENDED } from "../state/words.js";
import { Dialog, confirmed } from "../ui/dialog.js";
import { save } from "../ui/output.js";
import { Badge, Empty, Field, Figure, Meter, Problem, Select, Title, When } from "../ui/parts.js";
import { html } from "../html.js";

const EVERY_MS = 3000;
const PATH = "/api/v1/assessments";
const EXAMPLE = JSON.stringify({
  name: "arithmetic", cases: [
    { id: "product", code: "print(6 * 7)" },
    { id: "sum", code: "print(sum(map(int, input().split())))", tests: [{ id: "1", stdin: "1 2\n", expected: "3\n" }] },
  ],
}, null, 2);
const pathOf = (id) => `${PATH}/${encodeURIComponent(id)}`;
const score = (value) => (value === null || value === undefined ? "–" : percent(value));

export function Assessments() {
  const { data, error, again } = usePolled((signal) => get(`${PATH}?limit=100`, { signal }), EVERY_MS);
  const [making, setMaking] = useState(false);
  const found = data?.assessments ?? [];
  return html`<${Title} text="Assessments"><button type="button" class="button primary" onClick=${() => setMaking(true)}>Start one</button><//>
    <${Problem} error=${error} />
    <section class="card flush">${found.length ? html`<div class="scroll" tabindex="0" role="region" aria-label="Assessments"><table class="rows"><thead><tr><th scope="col">Name</th><th scope="col">Status</th><th scope="col">Progress</th><th scope="col" class="right">Cases</th><th scope="col" class="right">Score</th><th scope="col">Result</th><th scope="col" class="right">Made</th></tr></thead>
      <tbody>${found.map((one) => html`<tr key=${one.assessment_id}><td><a href=${hrefOf(["assessments", one.assessment_id])}>${plain(one.name)}</a></td><td><${Badge} name=${one.status} /></td>
        <td style=${{ minWidth: "140px" }}><div class="row"><div class="grow"><${Meter} share=${one.progress / 100} label=${`Progress of ${plain(one.name)}`} /></div><span class="num small">${Math.round(one.progress)} %</span></div></td>
        <td class="right num">${count(one.cases)}</td><td class="right num">${score(one.score)}</td><td><${Result} passed=${one.passed} /></td><td class="right muted fit"><${When} at=${one.created_at} /></td></tr>`)}</tbody></table></div>`
      : data ? html`<${Empty} title="No assessments yet" command="crucible assess examples/assessment">A suite of programs that runs in the background, with a score and a report. Start one here, or from a terminal:<//>` : null}</section>
    ${making ? html`<${Make} onClose=${() => setMaking(false)} onMade=${(id) => {
      setMaking(false);
      again();
      go(["assessments", id]);
    }} />` : null}`;
}

function Result({ passed }) {
  if (passed === null || passed === undefined) return html`<span class="muted">–</span>`;
  return html`<${Badge} name=${passed ? "passed" : "not passed"} tone=${passed ? "good" : "poor"} />`;
}

function Make({ onClose, onMade }) {
  const [suite, setSuite] = useState(EXAMPLE);
  const [error, setError] = useState(null);
  const make = async (event) => {
    event.preventDefault();
    try {
      const body = JSON.parse(suite);
      const { assessment_id: id } = await api("POST", PATH, body);
      await api("POST", `${pathOf(id)}/start`);
      onMade(id);
    } catch (refused) {
      setError(refused);
    }
  };
  const open = async (event) => {
    const [chosen] = event.currentTarget.files;
    if (chosen) setSuite(await chosen.text());
  };
  return html`<${Dialog} title="Start an assessment" onClose=${onClose}><form onSubmit=${make}>
    <${Field} label="Suite, as JSON" error=${error ? `${error.errors?.[0] ? `${error.errors[0].field}: ` : ""}${error.message}` : ""}><textarea class="input" rows="12" spellcheck=${false} value=${suite} onInput=${(event) => setSuite(event.currentTarget.value)}></textarea><//>
    <${Field} label="Or a file"><input class="input" type="file" accept=".json,application/json" onChange=${open} /><//>
    <div class="row"><span class="grow"></span><button type="button" class="button" onClick=${onClose}>Not now</button><button class="button primary">Start it</button></div></form><//>`;
}

export function Assessment({ id }) {
  const kept = useRef(null);
  const { data, error, again } = usePolled(async (signal) => {
    const state = await get(pathOf(id), { signal });
    // A report does not change, and may be large.
    if (state.report && !kept.current) kept.current = await get(`${pathOf(id)}/report`, { signal });
    return { state, report: kept.current };
  }, EVERY_MS, [id]);
  if (!data) return html`<${Title} text=${id} /><${Problem} error=${error} />`;
  const { state, report } = data;
  const stop = async () => {
    if (!(await confirmed("Cancel this assessment?", "What is left of it is not run. It cannot be started again.", "Cancel it"))) return;
    await attempt(() => api("DELETE", pathOf(id)));
    again();
  };
  const start = () => attempt(async () => {
    await api("POST", `${pathOf(id)}/start`);
    again();
  });
  return html`<${Title} text=${plain(state.name)}>
      ${state.status === "created" ? html`<button type="button" class="button primary" onClick=${start}>Start</button>` : null}
      ${ENDED.has(state.status) || state.status === "created" ? null : html`<button type="button" class="button danger" onClick=${stop}>Cancel</button>`}
      ${report ? html`<${Downloads} id=${id} report=${report} />` : null}<//>
    <${Problem} error=${error} />
    <section class="card" aria-label="Progress" aria-live="polite"><div class="head-line"><div class="row"><${Badge} name=${state.status} /><${Result} passed=${state.passed} /></div><span class="muted num">${count(state.runs_ended)} of ${count(state.runs)} runs</span></div>
      <${Meter} share=${state.progress / 100} label="Progress" />
      <p class="muted">${plain(state.message ?? state.current_step ?? "")}</p>
      <p class="muted small"><span class="mono">${state.assessment_id}</span> · made <${When} at=${state.created_at} /> · <a href=${hrefOf(["evaluations"], { "metadata.assessment": state.assessment_id })}>its evaluations</a></p></section>
    ${report ? html`<${Report} report=${report} /><${Comparison} id=${id} />` : null}`;
}

function Downloads({ id, report }) {
  const load = (format, ending) => attempt(async () => save(`${id}.${ending}`, await text(`${pathOf(id)}/report?format=${format}`)));
  return html`<button type="button" class="button" onClick=${() => load("html", "html")}>HTML</button><button type="button" class="button" onClick=${() => load("junit", "xml")}>JUnit</button>
    <button type="button" class="button" onClick=${() => save(`${id}.json`, JSON.stringify(report, null, 2))}>JSON</button>`;
}

const LISTED = 500;

function Report({ report }) {
  const { summary } = report;
  return html`<div class="figures"><${Figure} name=${`score, to pass ${score(summary.pass_score)}`} value=${score(summary.score)} tone=${summary.passed ? "ok" : "bad"} />
      <${Figure} name="cases passed" value=${`${count(summary.passed_cases)} of ${count(summary.total)}`} /><${Figure} name="flaky cases" value=${count(summary.flaky_cases)} tone=${summary.flaky_cases ? "warn" : ""} />
      <${Figure} name="median run" value=${milliseconds(summary.wall_time_ms?.p50)} /><${Figure} name="P99 run" value=${milliseconds(summary.wall_time_ms?.p99)} /><${Figure} name="most memory" value=${kib(summary.memory_peak_kb)} /></div>
    <div class="columns"><section class="card"><h2>Verdicts</h2><${Bars} counts=${Object.entries(summary.verdicts)} /></section>
      <section class="card"><h2>Languages</h2><${Bars} counts=${summary.languages.map((one) => [one.language, one.passed, one.total])} /></section></div>
    ${report.recommendations.length ? html`<section class="card"><h2>What to do</h2><ol class="stack">${report.recommendations.map((one) => html`<li key=${one.rank} class="stack tight"><div class="row wrap"><${Badge} name=${one.severity} tone=${one.severity === "high" ? "poor" : "fair"} /><strong>${plain(one.title)}</strong></div><p>${plain(one.action)}</p>
      <p class="muted small">${one.evidence.slice(0, 5).map((proof) => html`<a key=${proof.number} href=${hrefOf(["evaluations", proof.eval_id])}>${plain(proof.case)}</a> `)}</p></li>`)}</ol></section>` : null}
    <section class="card flush"><div class="head-line"><h2>Cases</h2></div><div class="scroll" tabindex="0" role="region" aria-label="Cases"><table class="rows"><thead><tr><th scope="col">Case</th><th scope="col">Verdict</th><th scope="col">Language</th><th scope="col" class="right">Score</th><th scope="col" class="right">Time</th><th scope="col" class="right">Memory</th></tr></thead>
      <tbody>${report.cases.slice(0, LISTED).map((one) => html`<tr key=${one.number}><td><a href=${hrefOf(["evaluations", one.eval_id])}>${plain(one.name || one.id)}</a></td><td><${Badge} name=${one.verdict} /></td><td>${plain(one.language)}</td><td class="right num">${score(one.score)}</td><td class="right num">${milliseconds(one.wall_time_ms)}</td><td class="right num">${kib(one.memory_peak_kb)}</td></tr>`)}</tbody></table></div>
      ${report.cases.length > LISTED ? html`<div class="bar">The first ${LISTED} of ${count(report.cases.length)} cases; the report has all of them.</div>` : null}</section>`;
}

/** Numbers by name, each as a share of all, or of its own total. */
function Bars({ counts }) {
  const all = counts.reduce((sum, [, number, total]) => sum + (total ?? number), 0);
  return html`<div class="meters">${counts.map(([name, number, total]) => html`<span key=${name}>${plain(name).replaceAll("_", " ")}</span><${Meter} share=${number / ((total ?? all) || 1)} label=${plain(name)} /><span class="num">${count(number)}${total === undefined ? "" : html` <span class="muted">of ${count(total)}</span>`}</span>`)}</div>`;
}

/** What has changed since an earlier one. */
function Comparison({ id }) {
  const [others, setOthers] = useState([]);
  const [baseline, setBaseline] = useState("");
  const [found, setFound] = useState(null);
  useEffect(() => {
    attempt(async () => {
      const { assessments } = await get(`${PATH}?limit=100`);
      setOthers(assessments.filter((one) => one.assessment_id !== id && one.status === "completed"));
    });
  }, [id]);
  useEffect(() => {
    setFound(null);
    if (baseline) attempt(async () => setFound(await get(`${pathOf(id)}/report?baseline=${encodeURIComponent(baseline)}`)));
  }, [id, baseline]);
  if (!others.length) return null;
  const groups = [["regressions", "poor"], ["improvements", "good"], ["slower", "fair"], ["faster", "good"], ["added", ""], ["removed", ""]];
  return html`<section class="card"><div class="head-line"><h2>Compared with</h2><${Select} label="An earlier assessment" style=${{ width: "auto" }} value=${baseline} options=${[["", "choose one"], ...others.map((one) => [one.assessment_id, `${plain(one.name)} · ${one.assessment_id}`])]} onChange=${setBaseline} /></div>
    ${found ? html`<p>The score ${found.score_change > 0 ? "rose" : found.score_change < 0 ? "fell" : "is the same"}${found.score_change ? ` by ${percent(Math.abs(found.score_change))}` : ""}.</p>
      ${groups.filter(([name]) => sizeOf(found[name])).map(([name, tone]) => html`<div key=${name} class="row wrap"><${Badge} name=${`${name}: ${sizeOf(found[name])}`} tone=${tone} /><span class="muted">${namesIn(found[name])}</span></div>`)}` : html`<p class="muted">${baseline ? "Asking…" : "Cases are the same that have the same id."}</p>`}</section>`;
}

const sizeOf = (value) => (Array.isArray(value) ? value.length : value ?? 0);
const NAMED = 12;

function namesIn(value) {
  if (!Array.isArray(value)) return "";
  const names = value.slice(0, NAMED).map((one) => plain(one.name || one.case));
  return names.join(", ") + (value.length > NAMED ? ` and ${value.length - NAMED} more` : "");
}

