// Write a program, say how it is to be run, and watch it.
import { useEffect, useRef, useState } from "preact/hooks";
import { api, get, healed, key } from "../state/api.js";
import { me } from "../state/me.js";
import { attempt, notify } from "../state/notices.js";
import { ENDINGS, EXAMPLES, asCli, asCurl, asPython, bodyOf, emptyDraft, packed, unpacked } from "../state/programs.js";
import { draft, remember, setDraft } from "../state/recall.js";
import { hrefOf, place, replaceQuery } from "../state/router.js";
import { Editor } from "../ui/editor.js";
import { save } from "../ui/output.js";
import { Copy, Field, Problem, Select, Title } from "../ui/parts.js";
import { Run } from "../ui/run.js";
import { Options } from "../ui/options.js";
import { html } from "../html.js";

export function Submit() {
  const [languages, setLanguages] = useState([]);
  const [environments, setEnvironments] = useState([]);
  const [error, setError] = useState(null);
  const [running, setRunning] = useState(false);
  const file = useRef(null);
  const shown = place.value.query.get("run");
  useEffect(() => {
    attemptQuietly(async () => {
      const [known, places] = await Promise.all([get("/api/languages"), get("/api/environments")]);
      setLanguages(known);
      setEnvironments(places);
    });
  }, [key.value, healed.value]);
  const shared = place.value.query.get("p");
  useEffect(() => {
    if (shared) openShared(shared);
  }, [shared]);
  const change = (fields) => setDraft({ ...draft.value, ...fields });
  const language = draft.value.language ?? "python";
  const run = async () => {
    setRunning(true);
    setError(null);
    const body = bodyOf(draft.value);
    try {
      const accepted = await api("POST", "/api/eval", body);
      remember(accepted.eval_id, body);
      replaceQuery({ run: accepted.eval_id, p: "" });
    } catch (refused) {
      setError(refused);
    } finally {
      setRunning(false);
    }
  };
  const errorOf = (name) => error?.errors.find((one) => one.field === name || one.field.startsWith(`${name}.`) || one.field.startsWith(`${name}[`))?.detail;
  return html`<${Title} text="Submit">
      <${Select} label="Language" value=${language} options=${(languages.length ? languages : Object.keys(EXAMPLES).map((name) => ({ name }))).map((one) => [one.name, one.version ? `${one.name} ${one.version}` : one.name])}
        style=${{ width: "auto" }} onChange=${(name) => change(isExample(draft.value.code) ? { language: name, code: EXAMPLES[name] ?? draft.value.code, environment: "" } : { language: name, environment: "" })} />
      <input ref=${file} type="file" hidden aria-label="Program to open" onChange=${(event) => open(event, change)} />
      <button type="button" class="button" onClick=${() => file.current.click()}>Open</button>
      <button type="button" class="button" onClick=${() => save(`program.${ENDINGS[language] ?? "txt"}`, draft.value.code)}>Save</button>
      <button type="button" class="button" onClick=${share}>Share</button>
      <button type="button" class="button" onClick=${clear}>Clear</button>
      <button type="button" class="button primary" disabled=${running || !draft.value.code.trim()} onClick=${run} title="Ctrl Enter">Run</button>
    <//>
    <${Problem} error=${error} />
    <div class="two">
      <div class="stack">
        <${Editor} code=${draft.value.code} language=${language} label="Program" onInput=${(code) => change({ code })} onRun=${run} />
        ${errorOf("code") ? html`<p class="bad" role="alert">${errorOf("code")}</p>` : null}
        ${shown ? html`<${Run} key=${shown} id=${shown} />` : null}
      </div>
      <div class="stack">
        <div class="card"><h2 class="hidden-label">How it is run</h2>
          <${Field} label="Standard input" error=${errorOf("stdin")}><textarea class="input" rows="3" spellcheck=${false} value=${draft.value.stdin ?? ""} onInput=${(event) => change({ stdin: event.currentTarget.value })}></textarea><//>
          <${Options} draft=${draft.value} change=${change} errorOf=${errorOf} environments=${environments.filter((one) => language in one.languages)} isolations=${me.value?.isolations ?? []} ceilings=${me.value?.ceilings ?? {}} />
        </div>
        <details class="card"><summary>The same from elsewhere</summary>
          <div class="row wrap"><${Copy} label="Copy as curl" text=${() => asCurl(draft.value)} /><${Copy} label="Copy as Python" text=${() => asPython(draft.value)} /><${Copy} label="Copy as CLI" text=${() => asCli(draft.value)} /></div>
        </details>
      </div>
    </div>`;
}

const isExample = (code) => !code.trim() || Object.values(EXAMPLES).includes(code);

async function attemptQuietly(action) {
  try {
    await action();
  } catch (error) {
    if (error.status !== 401 && error.status !== 0) notify(error.message, { poor: true });
  }
}

async function openShared(text) {
  const before = draft.value;
  try {
    setDraft(await unpacked(text));
    notify("Opened the shared program.", { undo: () => setDraft(before) });
  } catch {
    notify("The link holds no program; it may have been cut.", { poor: true });
  }
  replaceQuery({ p: "" });
}

const LONGEST_LINK = 30_000;

async function share() {
  await attempt(async () => {
    const text = await packed(draft.value);
    if (text.length > LONGEST_LINK) throw new Error("The program is too long for a link; save it to a file instead.");
    const link = `${location.origin}/${hrefOf(["submit"], { p: text })}`;
    await navigator.clipboard.writeText(link).catch(() => {
      history.replaceState(null, "", link);
    });
    notify("The link is copied. The program is in its fragment, which no server sees.");
  });
}

function clear() {
  const before = draft.value;
  setDraft({ ...emptyDraft(), language: before.language, code: EXAMPLES[before.language] ?? "" });
  notify("Cleared.", { undo: () => setDraft(before) });
}

async function open(event, change) {
  const [chosen] = event.currentTarget.files;
  event.currentTarget.value = "";
  if (!chosen) return;
  const before = draft.value;
  const ending = chosen.name.split(".").pop();
  const language = Object.keys(ENDINGS).find((name) => ENDINGS[name] === ending);
  change({ code: await chosen.text(), ...(language ? { language } : {}) });
  notify(`Opened ${chosen.name}.`, { undo: () => setDraft(before) });
}
