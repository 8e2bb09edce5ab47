// One evaluation: what happened, with everything that is known of it on one page.
import { useEffect, useState } from "preact/hooks";
import { api, get } from "../state/api.js";
import { useEvaluation } from "../state/evaluation.js";
import { attempt, notify } from "../state/notices.js";
import { asCli, asCurl, asPython, draftOf } from "../state/programs.js";
import { recalled, remember, setDraft } from "../state/recall.js";
import { bytesOf, plain } from "../state/reveal.js";
import { go, hrefOf } from "../state/router.js";
import { bytes } from "../state/format.js";
import { ENDED, meaningOf } from "../state/words.js";
import { Editor } from "../ui/editor.js";
import { Ending, Outputs, TestTable, Timeline, Usage } from "../ui/happened.js";
import { Output, Text, save } from "../ui/output.js";
import { Badge, Copy, Empty, Problem, Title, When } from "../ui/parts.js";
import { Live, Progress, Steps, cancel } from "../ui/run.js";
import { html } from "../html.js";

/** What it ran: known here if this tab submitted it, else kept by the service once it has ended. */
function useRequest(id, ended) {
  const [found, setFound] = useState({ request: recalled(id), missing: "" });
  useEffect(() => {
    const known = recalled(id);
    setFound({ request: known, missing: "" });
    if (known || !ended) return;
    get(`/api/eval/${encodeURIComponent(id)}/request`).then(
      (request) => setFound({ request: draftOf(request), missing: "" }),
      (error) => setFound({ request: null, missing: error.message }),
    );
  }, [id, ended]);
  return found;
}

export function Evaluation({ id }) {
  const { evaluation, error, again } = useEvaluation(id);
  const ended = evaluation !== null && ENDED.has(evaluation.status);
  const { request, missing } = useRequest(id, ended);
  if (!evaluation) {
    return html`<${Title} text=${id} />${error?.status === 404 ? html`<div class="card"><${Empty} title="No evaluation has this id" command=${`crucible list`}>It may be another tenant's, or older than what is kept. This lists the latest ones:<//></div>` : html`<${Problem} error=${error} />`}`;
  }
  const retry = () => attempt(async () => {
    const accepted = await api("POST", `/api/eval/${encodeURIComponent(id)}/retry`);
    if (request) remember(accepted.eval_id, request);
    notify("It runs again, as a new evaluation.");
    go(["evaluations", accepted.eval_id]);
  });
  const edit = () => {
    setDraft(request);
    go(["submit"]);
  };
  return html`<${Title} text=${id}>
      <${Copy} text=${id} label="Copy id" slim=${false} />
      ${ended ? html`<button type="button" class="button" disabled=${!request} title=${missing || "Opens the program in the editor"} onClick=${edit}>Edit and run</button>
        <button type="button" class="button primary" onClick=${retry}>Retry</button>` : html`<button type="button" class="button danger" onClick=${async () => {
          await cancel(id);
          again();
        }}>Cancel</button>`}
    <//>
    <${Problem} error=${error} />
    <section class="card" aria-label="What happened" aria-live="polite">
      <div class="row wrap"><${Badge} name=${ended ? evaluation.verdict ?? evaluation.status : evaluation.status} /><${Steps} evaluation=${evaluation} />
        ${evaluation.retry_of ? html`<span class="muted">again of <a href=${hrefOf(["evaluations", evaluation.retry_of])}>${evaluation.retry_of}</a></span>` : null}</div>
      ${ended ? html`<${Ending} evaluation=${evaluation} />` : html`<p>${meaningOf(evaluation.status)}</p>`}
      <${Progress} evaluation=${evaluation} /><${Live} evaluation=${evaluation} />
      ${ended ? html`<${Timeline} evaluation=${evaluation} />` : null}
    </section>
    <div class="two"><div class="stack">
      ${ended ? html`<section class="card"><h2 class="hidden-label">Results</h2>
        ${evaluation.tests ? html`<${TestTable} evaluation=${evaluation} />` : html`<${Outputs} evaluation=${evaluation} />`}
        <${Compilation} report=${evaluation.compile} /><${Files} evaluation=${evaluation} /></section>` : null}
      <${Program} id=${id} request=${request} missing=${missing} />
    </div><div class="stack">
      ${ended ? html`<section class="card"><h2>Usage</h2><${Usage} evaluation=${evaluation} limits=${request?.limits} /></section>` : null}
      <section class="card"><h2>Facts</h2><${Facts} evaluation=${evaluation} /></section>
    </div></div>`;
}

function Program({ id, request, missing }) {
  return html`<section class="card"><div class="head-line"><h2>Program</h2>
      ${request ? html`<div class="row wrap"><${Copy} text=${request.code} label="Copy code" /><${Copy} label="Copy as curl" text=${() => asCurl(request)} /><${Copy} label="Copy as Python" text=${() => asPython(request)} /><${Copy} label="Copy as CLI" text=${() => asCli(request)} /></div>` : null}</div>
    ${request ? html`<${Editor} key=${id} code=${request.code} language=${request.language ?? "python"} label="Program that was run" readOnly />
      ${request.stdin ? html`<h3>Standard input</h3><${Text} text=${request.stdin} label="Standard input" />` : null}` : html`<p class="muted">${missing || "The program is shown once it has ended."}</p>`}</section>`;
}

function Facts({ evaluation }) {
  const rows = [
    ["Attempts", evaluation.retry_count + 1],
    ["Language", evaluation.language || "–"],
    ["Queue", `${evaluation.queue || "–"} (${evaluation.queue_system})`],
    ["Worker", evaluation.worker ? plain(evaluation.worker) : "–"],
    ["Isolation", evaluation.isolation],
    ["Accepted", html`<${When} at=${evaluation.created_at} />`],
    ["Started", html`<${When} at=${evaluation.started_at} />`],
    ["Ended", html`<${When} at=${evaluation.finished_at} />`],
    ["Task", html`<span class="mono">${evaluation.task_id}</span>`],
  ];
  if (evaluation.metadata) rows.push(["Metadata", html`<span class="mono">${plain(JSON.stringify(evaluation.metadata))}</span>`]);
  return html`<dl class="facts">${rows.map(([name, value]) => html`<dt key=${name}>${name}</dt><dd>${value}</dd>`)}</dl>`;
}

function Compilation({ report }) {
  if (!report?.error) return null;
  return html`<${Output} title="Compiler" name="compiler" text=${report.error} encoding=${report.error_encoding} />`;
}

function Files({ evaluation }) {
  const files = Object.entries(evaluation.files ?? {});
  const omitted = Object.entries(evaluation.files_omitted ?? {});
  if (!files.length && !omitted.length) return null;
  return html`<section class="stack tight"><h3>Files</h3>
    ${files.map(([name, file]) => html`<${FileLine} key=${name} name=${name} file=${file} />`)}
    ${omitted.map(([name, reason]) => html`<div class="row" key=${name}><span class="mono cut grow">${plain(name)}</span><span class="warn small">${reason.replaceAll("_", " ")}</span></div>`)}</section>`;
}

function FileLine({ name, file }) {
  const content = typeof file === "string" ? bytesOf(file, "base64") : bytesOf(file.content ?? "", file.encoding ?? "base64");
  return html`<div class="row"><span class="mono cut grow">${plain(name)}</span><span class="muted small">${bytes(content.length)}</span>
    <button type="button" class="button slim" onClick=${() => save(name.split("/").pop(), content)}>Download</button></div>`;
}
