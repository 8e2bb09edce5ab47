// The console: which screen is shown at which place.
import { render } from "preact";
import "./styles/tokens.css";
import "./styles/base.css";
import "./styles/parts.css";
import "@preact/signals";
import { html } from "./html.js";
import { Assessment, Assessments } from "./screens/assessments.js";
import { DeadLetters } from "./screens/deadletters.js";
import { Evaluation } from "./screens/evaluation.js";
import { Evaluations } from "./screens/evaluations.js";
import { Keys } from "./screens/keys.js";
import { Migration } from "./screens/migration.js";
import { Queues } from "./screens/queues.js";
import { Submit } from "./screens/submit.js";
import { Webhooks } from "./screens/webhooks.js";
import { Workers } from "./screens/workers.js";
import { place } from "./state/router.js";
import { applyTheme } from "./state/theme.js";
import { Frame } from "./ui/frame.js";
import { Empty, Title } from "./ui/parts.js";

const SCREENS = {
  submit: () => html`<${Submit} />`,
  evaluations: (id) => (id ? html`<${Evaluation} key=${id} id=${id} />` : html`<${Evaluations} />`),
  assessments: (id) => (id ? html`<${Assessment} key=${id} id=${id} />` : html`<${Assessments} />`),
  queues: () => html`<${Queues} />`,
  workers: () => html`<${Workers} />`,
  "dead-letters": () => html`<${DeadLetters} />`,
  migration: () => html`<${Migration} />`,
  webhooks: () => html`<${Webhooks} />`,
  keys: () => html`<${Keys} />`,
};

function Console() {
  const [name, id] = place.value.path;
  const screen = SCREENS[name];
  return html`<${Frame}>${screen ? screen(id) : html`<${Title} text="Not here" /><div class="card"><${Empty} title="There is no such screen">Choose one on the left.<//></div>`}<//>`;
}

applyTheme();
render(html`<${Console} />`, document.querySelector("#console"));
