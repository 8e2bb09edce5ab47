// Templates without a compiler step: htm bound to Preact.
export { html } from "htm/preact";
