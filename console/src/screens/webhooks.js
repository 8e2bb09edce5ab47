// Webhooks: who is notified when evaluations end, and what became of each delivery.
import { useState } from "preact/hooks";
import { api, get } from "../state/api.js";
import { milliseconds } from "../state/format.js";
import { attempt, notify } from "../state/notices.js";
import { usePolled } from "../state/polling.js";
import { plain } from "../state/reveal.js";
import { hrefOf } from "../state/router.js";
import { Dialog, confirmed } from "../ui/dialog.js";
import { Badge, Command, Empty, Field, Problem, Title, When } from "../ui/parts.js";
import { html } from "../html.js";

const EVERY_MS = 5000;
const TONES = { delivered: "good", retrying: "fair", failed: "poor" };

export function Webhooks() {
  const { data, error, again } = usePolled((signal) => get("/api/v1/webhooks", { signal }), EVERY_MS);
  const [making, setMaking] = useState(false);
  const [made, setMade] = useState(null);
  const [opened, setOpened] = useState("");
  const hooks = data?.webhooks ?? [];
  const rotate = async (one) => {
    const found = await attempt(() => api("POST", `/api/v1/webhooks/${one.id}/rotate`));
    if (found) setMade(found);
  };
  const remove = async (one) => {
    if (!(await confirmed("Forget this webhook?", `${plain(one.url || one.id)} is notified no more.`, "Forget it"))) return;
    await attempt(() => api("DELETE", `/api/v1/webhooks/${one.id}`));
    again();
  };
  return html`<${Title} text="Webhooks"><button type="button" class="button primary" onClick=${() => setMaking(true)}>Register one</button><//>
    <${Problem} error=${error} />
    ${hooks.length ? hooks.map((one) => html`<section class="card" key=${one.id}><div class="head-line"><h2 class="cut">${one.url ? plain(one.url) : "Submissions with a webhook_url"}</h2><${Badge} name=${one.enabled ? "enabled" : "disabled"} tone=${one.enabled ? "good" : "poor"} /></div>
      ${one.disabled_reason ? html`<p class="bad">${plain(one.disabled_reason)}</p>` : null}
      <p class="muted"><span class="mono">${one.id}</span> · ${one.events.join(", ")} · registered <${When} at=${one.created_at} /></p>
      <div class="row wrap"><button type="button" class="button slim" aria-expanded=${opened === one.id} onClick=${() => setOpened(opened === one.id ? "" : one.id)}>Deliveries</button><button type="button" class="button slim" onClick=${() => rotate(one)}>New secret</button>${one.url ? html`<button type="button" class="button slim danger" onClick=${() => remove(one)}>Forget</button>` : null}</div>
      ${opened === one.id ? html`<${Deliveries} id=${one.id} />` : null}</section>`)
      : data ? html`<div class="card"><${Empty} title="No webhooks" command=${`curl -sS ${location.origin}/api/v1/webhooks \\\n  -H 'Content-Type: application/json' -d '{"url":"https://example.org/hook"}'`}>A receiver is called when an evaluation ends, signed as in Standard Webhooks. Register one here, or from a terminal:<//></div>` : null}
    ${making ? html`<${Make} onClose=${() => setMaking(false)} onMade=${(hook) => {
      setMaking(false);
      setMade(hook);
      again();
    }} />` : null}
    ${made ? html`<${Dialog} title="Its secret, this once" onClose=${() => setMade(null)}><p>Deliveries are verified with it. It is not shown again.</p><${Command} text=${made.secret} /><div class="row"><span class="grow"></span><button type="button" class="button primary" onClick=${() => setMade(null)}>I have it</button></div><//>` : null}`;
}

function Deliveries({ id }) {
  const { data, error, again } = usePolled((signal) => get(`/api/v1/webhooks/${id}/deliveries`, { signal }), EVERY_MS, [id]);
  const replay = (one) => attempt(async () => {
    await api("POST", `/api/v1/webhooks/deliveries/${encodeURIComponent(one.id)}/replay`);
    notify("It is delivered once more, under the same id.");
    again();
  });
  const found = data?.deliveries ?? [];
  return html`<${Problem} error=${error} />${found.length ? html`<div class="scroll" tabindex="0" role="region" aria-label="Deliveries"><table class="rows"><thead><tr><th scope="col">Evaluation</th><th scope="col">Event</th><th scope="col">Outcome</th><th scope="col" class="right">Attempts</th><th scope="col" class="right">Status</th><th scope="col" class="right">Took</th><th scope="col">When</th><th scope="col"><span class="hidden-label">Actions</span></th></tr></thead>
    <tbody>${found.map((one) => {
      const [latest] = one.attempts;
      return html`<tr key=${one.id}><td><a class="mono" href=${hrefOf(["evaluations", one.eval_id])}>${plain(one.eval_id)}</a></td><td>${one.type}</td><td><${Badge} name=${one.status} tone=${TONES[one.status]} />${latest.detail && one.status !== "delivered" ? html`<div class="small muted">${plain(latest.detail).slice(0, 120)}</div>` : null}${latest.next_at ? html`<div class="small muted">again at ${latest.next_at.slice(11, 19)} UTC</div>` : null}</td><td class="right num">${one.attempts.length}</td><td class="right num">${latest.status_code ?? "–"}</td><td class="right num">${milliseconds(latest.duration_ms)}</td><td><${When} at=${latest.at} /></td>
        <td class="fit"><button type="button" class="button slim" onClick=${() => replay(one)} aria-label=${`Replay ${one.id}`}>Replay</button></td></tr>`;
    })}</tbody></table></div>` : data ? html`<p class="muted">Nothing was delivered yet.</p>` : null}`;
}

function Make({ onClose, onMade }) {
  const [url, setUrl] = useState("");
  const [error, setError] = useState(null);
  const make = async (event) => {
    event.preventDefault();
    try {
      onMade(await api("POST", "/api/v1/webhooks", { url }));
    } catch (refused) {
      setError(refused);
    }
  };
  return html`<${Dialog} title="Register a webhook" onClose=${onClose}><form onSubmit=${make}>
    <${Field} label="URL" error=${error?.message} hint="Private addresses are refused unless the installation allows their network."><input class="input" type="url" required autofocus placeholder="https://example.org/hook" value=${url} onInput=${(event) => setUrl(event.currentTarget.value)} /><//>
    <div class="row"><span class="grow"></span><button type="button" class="button" onClick=${onClose}>Not now</button><button class="button primary">Register</button></div></form><//>`;
}
