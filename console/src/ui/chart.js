// Lines over time, drawn by uPlot; what they say is also there as text. The library is a quarter of
// all scripts, so it is loaded by the first screen with a line in it, not by every visit.
import "uplot/dist/uPlot.min.css";
import { useEffect, useRef, useState } from "preact/hooks";
import { theme } from "../state/theme.js";
import { html } from "../html.js";

const colour = (name) => {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
};

let loaded = null;
const library = async () => (loaded ??= (await import("uplot")).default);

/** One line without axes. */
export function Spark({ xs, ys, label, tone = "--part-run", height = 44 }) {
  const box = useRef(null);
  const plot = useRef(null);
  const [UPlot, setUPlot] = useState(() => loaded);
  useEffect(() => {
    if (UPlot) return undefined;
    let wanted = true;
    library().then((found) => wanted && setUPlot(() => found), () => {}); // the label says it too
    return () => { wanted = false; };
  }, [UPlot]);
  useEffect(() => {
    if (!UPlot) return undefined;
    const stroke = colour(tone);
    const made = new UPlot({
      width: box.current.clientWidth || 160, height, cursor: { show: false }, legend: { show: false },
      scales: { x: { time: true }, y: { range: (_, low, high) => [0, Math.max(1, high)] } },
      axes: [{ show: false }, { show: false }], padding: [3, 0, 3, 0],
      series: [{}, { stroke, width: 1.5, fill: stroke.replace("rgb(", "rgba(").replace(")", ", 0.12)"), points: { show: false } }],
    }, [[], []], box.current);
    plot.current = made;
    const watcher = new ResizeObserver(([entry]) => made.setSize({ width: entry.contentRect.width, height }));
    watcher.observe(box.current);
    return () => {
      watcher.disconnect();
      made.destroy();
    };
  }, [UPlot, theme.value, tone]);
  useEffect(() => plot.current?.setData([xs, ys]), [xs, ys, UPlot, theme.value, tone]);
  return html`<div class="spark" ref=${box} style=${{ height: `${height}px` }} role="img" aria-label=${label}></div>`;
}
