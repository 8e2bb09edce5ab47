// What may come with a program: environment, isolation, priority, limits, arguments, files, tests.
import { bytes } from "../state/format.js";
import { Field, Select } from "./parts.js";
import { html } from "../html.js";

const LIMITS = [
  ["wall_time_s", "Wall time, s", 10], ["cpu_time_s", "CPU time, s", 10], ["memory_mb", "Memory, MiB", 256],
  ["pids", "Processes", 64], ["output_kb", "Output, KiB", 1024], ["disk_mb", "Disk, MiB", 64],
];
const PRIORITIES = Array.from({ length: 10 }, (_, n) => [String(9 - n), `${9 - n} · ${9 - n >= 7 ? "high_priority" : 9 - n >= 3 ? "evaluation" : "batch"}`]);

export function Options({ draft, change, errorOf, environments, isolations, ceilings }) {
  const limits = draft.limits ?? {};
  const setLimit = (name, text) => {
    const { [name]: _, ...rest } = limits;
    change({ limits: text === "" ? rest : { ...rest, [name]: Number(text) } });
  };
  return html`<div class="fields">
      <${Field} label="Environment" error=${errorOf("environment")}><${Select} value=${draft.environment ?? ""} options=${[["", "by language"], ...environments.map((one) => [one.name, one.available ? one.name : `${one.name} (no worker has it)`])]} onChange=${(environment) => change({ environment })} /><//>
      <${Field} label="Isolation" error=${errorOf("isolation")}><${Select} value=${draft.isolation ?? ""} options=${[["", "as installed"], ...isolations.map((name) => [name, name])]} onChange=${(isolation) => change({ isolation })} /><//>
      <${Field} label="Priority" error=${errorOf("priority")}><${Select} value=${String(draft.priority ?? 5)} options=${PRIORITIES} onChange=${(text) => change({ priority: Number(text) })} /><//>
    </div>
    <details><summary class="muted">Limits${Object.keys(limits).length ? ` (${Object.keys(limits).length} set)` : ""}</summary>
      <div class="fields" style=${{ marginTop: "8px" }}>${LIMITS.map(([name, label, usual]) => html`<${Field} key=${name} label=${label} error=${errorOf(`limits.${name}`)}>
        <input class="input num" type="number" min="0" step="any" max=${ceilings[name]} placeholder=${usual} value=${limits[name] ?? ""} onInput=${(event) => setLimit(name, event.currentTarget.value)} /><//>`)}</div></details>
    <details><summary class="muted">Arguments and environment variables</summary>
      <div class="stack tight" style=${{ marginTop: "8px" }}>
        <${Field} label="Arguments, one a line" error=${errorOf("args")}><textarea class="input" rows="2" spellcheck=${false} value=${(draft.args ?? []).join("\n")} onInput=${(event) => change({ args: linesOf(event) })}></textarea><//>
        <${Field} label="Variables, NAME=VALUE a line" error=${errorOf("env")}><textarea class="input" rows="2" spellcheck=${false} onInput=${(event) => change({ env: pairsOf(event) })}>${Object.entries(draft.env ?? {}).map((pair) => pair.join("=")).join("\n")}</textarea><//></div></details>
    <${Files} draft=${draft} change=${change} error=${errorOf("files")} />
    <${Tests} draft=${draft} change=${change} error=${errorOf("tests")} />`;
}

const linesOf = (event) => {
  const text = event.currentTarget.value;
  return text ? text.split("\n") : [];
};

const pairsOf = (event) => Object.fromEntries(linesOf(event).filter((line) => line.includes("=")).map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]));

function Files({ draft, change, error }) {
  const files = draft.files ?? [];
  const add = async (event) => {
    const chosen = [...event.currentTarget.files];
    event.currentTarget.value = "";
    const read = await Promise.all(chosen.map(async (one) => ({ name: one.name, content: base64(new Uint8Array(await one.arrayBuffer())), encoding: "base64" })));
    change({ files: [...files.filter((old) => !read.some((one) => one.name === old.name)), ...read] });
  };
  return html`<details open=${files.length > 0}><summary class="muted">Files${files.length ? ` (${files.length})` : ""}</summary>
    <div class="stack tight" style=${{ marginTop: "8px" }}>
      ${files.map((one, index) => html`<div class="row" key=${one.name}><span class="mono cut grow">${one.name}</span><span class="muted small">${bytes(Math.floor(one.content.length * (one.encoding === "base64" ? 0.75 : 1)))}</span>
        <button type="button" class="button slim" onClick=${() => change({ files: files.filter((_, at) => at !== index) })}>Remove</button></div>`)}
      <${Field} label="Files beside the program" error=${error}><input class="input" type="file" multiple onChange=${add} /><//>
      <${Field} label="Files to return, such as plot.png, out/*.json"><input class="input mono" spellcheck=${false} value=${(draft.output_files ?? []).join(", ")} onChange=${(event) => change({ output_files: event.currentTarget.value.split(",").map((name) => name.trim()).filter(Boolean) })} /><//>
    </div></details>`;
}

function base64(content) {
  let text = "";
  for (let at = 0; at < content.length; at += 8192) text += String.fromCharCode(...content.subarray(at, at + 8192));
  return btoa(text);
}

function Tests({ draft, change, error }) {
  const tests = draft.tests ?? [];
  const set = (index, fields) => change({ tests: tests.map((one, at) => (at === index ? { ...one, ...fields } : one)) });
  const add = () => change({ tests: [...tests, { id: String(tests.length + 1), stdin: "", expected: "" }] });
  return html`<details open=${tests.length > 0}><summary class="muted">Tests${tests.length ? ` (${tests.length})` : ""}</summary>
    <div class="stack tight" style=${{ marginTop: "8px" }}>
      ${tests.map((one, index) => html`<fieldset key=${index} class="card" style=${{ padding: "8px" }}>
        <legend class="hidden-label">Test ${one.id}</legend>
        <div class="row"><input class="input slim" aria-label="Name of the test" value=${one.id} onInput=${(event) => set(index, { id: event.currentTarget.value })} />
          <button type="button" class="button slim" onClick=${() => change({ tests: tests.filter((_, at) => at !== index) })}>Remove</button></div>
        <div class="fields"><${Field} label="Input"><textarea class="input" rows="2" spellcheck=${false} value=${one.stdin ?? ""} onInput=${(event) => set(index, { stdin: event.currentTarget.value })}></textarea><//>
        <${Field} label="Expected"><textarea class="input" rows="2" spellcheck=${false} value=${one.expected ?? ""} onInput=${(event) => set(index, { expected: event.currentTarget.value })}></textarea><//></div></fieldset>`)}
      ${error ? html`<p class="bad" role="alert">${error}</p>` : null}
      <div class="row wrap"><button type="button" class="button slim" onClick=${add}>Add a test</button>
        ${tests.length ? html`<${Select} label="How outputs are compared" style=${{ width: "auto" }} value=${draft.compare?.mode ?? "trim"} options=${["exact", "trim", "tokens", "float", "sorted"].map((mode) => [mode, `compare: ${mode}`])} onChange=${(mode) => change({ compare: { mode } })} />` : null}</div>
    </div></details>`;
}
