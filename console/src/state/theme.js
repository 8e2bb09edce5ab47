// Dark or light: as the system has it, or as it was switched to here.
import { signal } from "@preact/signals";

const STORED = "crucible.theme";
const ORDER = ["system", "light", "dark"];
export const theme = signal(localStorage.getItem(STORED) ?? "system");

export function applyTheme() {
  if (theme.value === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme.value;
}

export function nextTheme() {
  theme.value = ORDER[(ORDER.indexOf(theme.value) + 1) % ORDER.length];
  localStorage.setItem(STORED, theme.value);
  applyTheme();
}
