// What is around every screen: head, navigation, notices, and what is said while the api is away.
import { useEffect, useState } from "preact/hooks";
import { api, healed, key, keyWanted, online, setKey } from "../state/api.js";
import { may, me, readMe } from "../state/me.js";
import { attempt, dismiss, notices } from "../state/notices.js";
import { go, place } from "../state/router.js";
import { nextTheme, theme } from "../state/theme.js";
import { html } from "../html.js";
import { Confirmation, Dialog } from "./dialog.js";
import { Field } from "./parts.js";
import { HELP, useGlobalKeys } from "./shortcuts.js";

const GROUPS = [
  ["Programs", [["submit", "Submit"], ["evaluations", "Evaluations"], ["assessments", "Assessments"]]],
  ["Operation", [["queues", "Queues", "admin"], ["workers", "Workers", "admin"], ["dead-letters", "Dead letters"], ["migration", "Migration", "admin"]]],
  ["Settings", [["webhooks", "Webhooks"], ["keys", "Keys", "admin"]]],
];

export function Frame({ children }) {
  const [help, setHelp] = useState(false);
  const [entering, setEntering] = useState(false);
  useGlobalKeys(() => setHelp(true));
  useEffect(() => {
    readMe();
  }, [key.value, healed.value]);
  return html`<div class="frame">
    <a class="skip" href="#main" onClick=${toMain}>Skip to the content</a>
    <header class="head">
      <a class="brand" href="#/submit" aria-label="Crucible"><${Logo} /><span>Crucible</span></a>
      <${Find} />
      <span class="grow wide-only"></span>
      ${me.value ? html`<span class="muted small wide-only" title="Whose evaluations are shown">tenant ${me.value.tenant}</span>` : null}
      ${me.value?.keyed || key.value || keyWanted.value ? html`<button type="button" class="button slim" onClick=${() => setEntering(true)}>${key.value ? "Key" : "Enter a key"}</button>` : null}
      <button type="button" class="button plain slim" onClick=${nextTheme} title="Colours: as the system has them, light, dark"><span class="hidden-label">Colours: </span>${{ system: "Auto", light: "Light", dark: "Dark" }[theme.value]}</button>
      <button type="button" class="button plain slim wide-only" onClick=${() => setHelp(true)} aria-label="Keyboard shortcuts"><kbd>?</kbd></button>
    </header>
    <${Navigation} />
    <main class="main" id="main" tabindex="-1">
      ${online.value ? null : html`<div class="problem" role="status"><strong>The api does not answer</strong><span>It is asked again every two seconds. What is shown below may be old.</span></div>`}
      ${children}
    </main>
    <${Notices} />
    <${Confirmation} />
    ${entering || keyWanted.value ? html`<${KeyDialog} onClose=${() => {
      setEntering(false);
      keyWanted.value = "";
    }} />` : null}
    ${help ? html`<${Dialog} title="Keyboard" onClose=${() => setHelp(false)}>
      <div class="keys">${HELP.map(([keys, text]) => html`<kbd>${keys}</kbd><span>${text}</span>`)}</div>
      <div class="row"><span class="grow"></span><button type="button" class="button" onClick=${() => setHelp(false)}>Close</button></div><//>` : null}
  </div>`;
}

function toMain(event) {
  event.preventDefault();
  document.querySelector("#main").focus();
}

function Logo() {
  return html`<svg viewBox="0 0 20 20" aria-hidden="true"><path fill="currentColor" d="M3 3h14l-1.2 9.2A5.8 5.8 0 0 1 10 17.3a5.8 5.8 0 0 1-5.8-5.1L3 3Zm2.3 2 .9 7a3.8 3.8 0 0 0 7.6 0l.9-7H5.3Zm1.6 3.4h6.2l-.5 3.4a2.6 2.6 0 0 1-5.2 0l-.5-3.4Z"/></svg>`;
}

/** One box that finds: an id that there is opens it, anything else filters the list. */
function Find() {
  const [text, setText] = useState("");
  const find = async (event) => {
    event.preventDefault();
    const wanted = text.trim();
    if (!wanted) return;
    setText("");
    document.activeElement.blur();
    const id = wanted.replace(/^eval-/, "");
    if (/^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/.test(id) && (await exists(id))) go(["evaluations", id]);
    else go(["evaluations"], { q: wanted });
  };
  return html`<form class="find" role="search" onSubmit=${find}>
    <label class="hidden-label" for="find">Find an evaluation by id or metadata</label>
    <input id="find" class="input" type="search" placeholder="Find by id or metadata" value=${text} autocomplete="off" spellcheck=${false}
      onInput=${(event) => setText(event.currentTarget.value)} onKeyDown=${(event) => event.key === "Escape" && event.currentTarget.blur()} />
    <kbd aria-hidden="true">/</kbd></form>`;
}

async function exists(id) {
  try {
    await api("GET", `/api/eval/${encodeURIComponent(id)}`);
    return true;
  } catch {
    return false;
  }
}

function Navigation() {
  const here = place.value.path[0];
  useEffect(() => {
    document.querySelector(".nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
  }, [here]);
  return html`<nav class="nav" aria-label="Screens">
    ${GROUPS.map(([title, links]) => html`<div class="group">${title}</div>
      ${links.filter(([, , scope]) => !scope || !me.value || may(scope)).map(([name, text]) =>
        html`<a key=${name} href=${`#/${name}`} aria-current=${here === name ? "page" : undefined}>${text}</a>`)}`)}
    ${may("admin") || !me.value ? html`<a href="/flower/" onClick=${openFlower}>Flower</a>` : null}
    <a href="/docs">API</a>
  </nav>`;
}

/** A page that is opened carries no header field, so it is let in by a cookie for it alone. */
async function openFlower(event) {
  if (!key.value) return;
  event.preventDefault();
  const allowed = await attempt(async () => {
    await api("POST", "/api/v1/flower");
    return true;
  });
  if (allowed) location.assign("/flower/");
}

function Notices() {
  return html`<div class="notices" role="status" aria-live="polite">${notices.value.map((one) => html`<div key=${one.id} class=${`notice ${one.poor ? "poor" : ""}`}>
    <span>${one.text}</span>
    ${one.undo ? html`<button type="button" class="button slim" onClick=${() => {
      dismiss(one.id);
      one.undo();
    }}>Undo</button>` : null}
    <button type="button" class="button plain slim" aria-label="Dismiss" onClick=${() => dismiss(one.id)}>✕</button></div>`)}</div>`;
}

function KeyDialog({ onClose }) {
  const [text, setText] = useState("");
  const enter = (event) => {
    event.preventDefault();
    setKey(text.trim());
    onClose();
  };
  return html`<${Dialog} title="API key" onClose=${onClose}>
    <form onSubmit=${enter}>
      <p class="muted">${keyWanted.value || "The key is kept in this tab until it is closed, and sent in a header field."}</p>
      <${Field} label="Key"><input class="input mono" type="password" autocomplete="off" autofocus placeholder="crk_…" value=${text} onInput=${(event) => setText(event.currentTarget.value)} /><//>
      <div class="row"><span class="grow"></span>
        ${key.value ? html`<button type="button" class="button" onClick=${() => {
          setKey("");
          onClose();
        }}>Forget the key</button>` : null}
        <button type="button" class="button" onClick=${onClose}>Not now</button>
        <button class="button primary" disabled=${!text.trim()}>Use it</button></div>
    </form><//>`;
}
