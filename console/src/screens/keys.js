// API keys: made, rotated and revoked; a secret is shown once.
import { useState } from "preact/hooks";
import { api, get } from "../state/api.js";
import { attempt } from "../state/notices.js";
import { readMe } from "../state/me.js";
import { usePolled } from "../state/polling.js";
import { plain } from "../state/reveal.js";
import { Dialog, confirmed } from "../ui/dialog.js";
import { Badge, Command, Empty, Field, Problem, Select, Title, When } from "../ui/parts.js";
import { html } from "../html.js";

const EVERY_MS = 10_000;
const TIERS = [["standard", "standard: queue evaluation"], ["premium", "premium: queue high_priority"], ["bulk", "bulk: queue batch"]];
const SCOPES = [["submit", "submit and cancel"], ["read", "read"], ["admin", "operate the installation"]];

export function Keys() {
  const { data, error, again } = usePolled((signal) => get("/api/v1/keys", { signal }), EVERY_MS);
  const [making, setMaking] = useState(false);
  const [made, setMade] = useState(null);
  const keys = data?.keys ?? [];
  const rotate = async (one) => {
    const found = await attempt(() => api("POST", `/api/v1/keys/${one.id}/rotate`, { grace_s: 0 }));
    if (found) setMade(found);
    again();
  };
  const revoke = async (one) => {
    if (!(await confirmed(`Revoke ${plain(one.name)}?`, "Whoever uses this key is refused within a second. It cannot be made valid again.", "Revoke"))) return;
    await attempt(() => api("DELETE", `/api/v1/keys/${one.id}`));
    again();
  };
  return html`<${Title} text="Keys"><button type="button" class="button primary" onClick=${() => setMaking(true)}>Make a key</button><//>
    <${Problem} error=${error} />
    <section class="card flush">${keys.length ? html`<div class="scroll" tabindex="0" role="region" aria-label="Keys"><table class="rows"><thead><tr><th scope="col">Name</th><th scope="col">Key</th><th scope="col">Tenant</th><th scope="col">Tier</th><th scope="col">Scopes</th><th scope="col">Last used</th><th scope="col">Made</th><th scope="col"><span class="hidden-label">Actions</span></th></tr></thead>
      <tbody>${keys.map((one) => html`<tr key=${one.id}><td><strong>${plain(one.name)}</strong></td><td class="mono muted">${one.start}…</td><td>${plain(one.tenant)}</td><td>${one.tier}</td><td>${one.scopes.join(", ")}</td><td><${When} at=${one.last_used_at} /></td><td><${When} at=${one.created_at} /></td>
        <td class="fit right">${one.revoked_at ? html`<${Badge} name="revoked" tone="poor" />` : html`<button type="button" class="button slim" onClick=${() => rotate(one)} aria-label=${`Rotate ${plain(one.name)}`}>Rotate</button> <button type="button" class="button slim danger" onClick=${() => revoke(one)} aria-label=${`Revoke ${plain(one.name)}`}>Revoke</button>`}</td></tr>`)}</tbody></table></div>`
      : data ? html`<${Empty} title="No keys" command="crucible keys create NAME --tenant TENANT --scopes submit,read,admin">Until the first key is made, this machine is served without one, as tenant local. Then every request needs a key. Make one with the scope admin first:<//>` : null}</section>
    ${making ? html`<${Make} first=${!keys.length} onClose=${() => setMaking(false)} onMade=${(key) => {
      setMaking(false);
      setMade(key);
      again();
    }} />` : null}
    ${made ? html`<${Dialog} title="The key, this once" onClose=${() => setMade(null)}><p>Copy it now. Only a hash of it is kept, so it cannot be shown again.</p><${Command} text=${made.key} />
      <div class="row"><span class="grow"></span><button type="button" class="button primary" onClick=${() => {
        setMade(null);
        readMe();
      }}>I have it</button></div><//>` : null}`;
}

function Make({ first, onClose, onMade }) {
  const [form, setForm] = useState({ name: "", tenant: "", tier: "standard", scopes: first ? ["submit", "read", "admin"] : ["submit", "read"] });
  const [error, setError] = useState(null);
  const change = (fields) => setForm({ ...form, ...fields });
  const errorOf = (name) => error?.errors.find((one) => one.field.startsWith(name))?.detail;
  const make = async (event) => {
    event.preventDefault();
    try {
      onMade(await api("POST", "/api/v1/keys", form));
    } catch (refused) {
      setError(refused);
    }
  };
  return html`<${Dialog} title="Make a key" onClose=${onClose}><form onSubmit=${make}>
    ${first ? html`<p class="warn">From the first key on, every request needs one. Keep the scope admin on this one.</p>` : null}
    <${Field} label="Name" error=${errorOf("name")}><input class="input" required autofocus placeholder="what it is for" value=${form.name} onInput=${(event) => change({ name: event.currentTarget.value })} /><//>
    <${Field} label="Tenant" error=${errorOf("tenant")}><input class="input" required placeholder="whose evaluations it has" value=${form.tenant} onInput=${(event) => change({ tenant: event.currentTarget.value })} /><//>
    <${Field} label="Tier"><${Select} value=${form.tier} options=${TIERS} onChange=${(tier) => change({ tier })} /><//>
    <fieldset class="stack tight" style=${{ border: 0, padding: 0, margin: 0 }}><legend class="muted small">Scopes</legend>${SCOPES.map(([name, text]) => html`<label class="check" key=${name}><input type="checkbox" checked=${form.scopes.includes(name)} onChange=${(event) => change({ scopes: event.currentTarget.checked ? [...form.scopes, name] : form.scopes.filter((one) => one !== name) })} /> ${name} <span class="muted">${text}</span></label>`)}</fieldset>
    ${error && !error.errors.length ? html`<${Problem} error=${error} />` : null}
    <div class="row"><span class="grow"></span><button type="button" class="button" onClick=${onClose}>Not now</button><button class="button primary">Make it</button></div></form><//>`;
}
