// Small parts that every screen is made of.
import { useEffect, useId, useState } from "preact/hooks";
import { absolute, ago } from "../state/format.js";
import { notify } from "../state/notices.js";
import { toneOf, wordsOf } from "../state/words.js";
import { html } from "../html.js";

/** A labelled control; `error` is what the API said of it. */
export function Field({ label, error, children, hint }) {
  return html`<label class="field"><span>${label}</span>${children}
    ${hint ? html`<span class="small muted">${hint}</span>` : null}
    ${error ? html`<span class="error" role="alert">${error}</span>` : null}</label>`;
}

export function Badge({ name, tone = toneOf(name) }) {
  return html`<span class=${`badge ${tone}`}><span class="cut">${wordsOf(name)}</span></span>`;
}

/** A time as a distance from now, which grows as one looks; the absolute one on hover. */
export function When({ at }) {
  const [, tick] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => tick((n) => n + 1), 10_000);
    return () => clearInterval(timer);
  }, []);
  if (at === null || at === undefined) return html`<span class="muted">–</span>`;
  const moment = typeof at === "number" ? at * 1000 : Date.parse(at);
  return html`<time datetime=${new Date(moment).toISOString()} title=${absolute(moment)} class="num">${ago(moment)}</time>`;
}

export function Copy({ text, label = "Copy", slim = true }) {
  const copy = async () => {
    const value = typeof text === "function" ? text() : text;
    try {
      await navigator.clipboard.writeText(value);
      notify("Copied.");
    } catch {
      notify("The browser does not allow copying here; select the text instead.", { poor: true });
    }
  };
  return html`<button type="button" class=${`button ${slim ? "slim" : ""}`} onClick=${copy}>${label}</button>`;
}

/** A command to type, with a button that copies it. */
export function Command({ text }) {
  return html`<div class="command"><pre>${text}</pre><${Copy} text=${text} /></div>`;
}

/** Where there is nothing yet: what would be here, and how to get it. */
export function Empty({ title, children, command }) {
  return html`<div class="empty"><h2>${title}</h2><div>${children}</div>
    ${command ? html`<${Command} text=${command} />` : null}</div>`;
}

export function Problem({ error }) {
  if (!error || error.status === 0) return null; // the frame says that the api is away
  const next = adviceFor(error);
  return html`<div class="problem" role="alert"><strong>${error.title || "It failed"}</strong>
    <span>${error.message}</span>${next ? html`<span>${next}</span>` : null}</div>`;
}

function adviceFor(error) {
  if (error.status === 401) return "Enter a key with the button at the top.";
  if (error.status === 403) return "Use a key that has the scope.";
  if (error.status === 429 || error.status === 503) return error.retryAfter ? `Try again in ${error.retryAfter} s.` : "";
  return "";
}

export function Figure({ name, value, tone = "" }) {
  return html`<div class="figure"><div class=${`value ${tone}`}>${value}</div><div class="name">${name}</div></div>`;
}

/** A share of something, as a bar and for screen readers as a number. */
export function Meter({ share, label, full = false }) {
  const kept = Math.max(0, Math.min(1, share || 0));
  return html`<div class=${`meter ${full && kept >= 1 ? "full" : ""}`} role="meter" aria-label=${label} aria-valuemin="0" aria-valuemax="100" aria-valuenow=${Math.round(kept * 100)}>
    <i style=${{ width: `${kept * 100}%` }}></i></div>`;
}

export function Select({ value, options, onChange, label, ...rest }) {
  const id = useId();
  return html`${label ? html`<label class="hidden-label" for=${id}>${label}</label>` : null}
    <select id=${id} value=${value} onChange=${(event) => onChange(event.currentTarget.value)} ...${rest}>
      ${options.map(([name, text]) => html`<option key=${name} value=${name} selected=${name === value}>${text}</option>`)}
    </select>`;
}

export function Title({ text, children }) {
  useEffect(() => {
    document.title = `${text} · Crucible`;
  }, [text]);
  return html`<div class="title"><h1 class="grow cut">${text}</h1>${children}</div>`;
}
