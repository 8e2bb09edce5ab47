// A list of thousands of rows, of which only those in view are in the page.
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { html } from "../html.js";

const ROW = 34;
const AHEAD = 12;

/**
 * rows: what is listed, each with an `id`. draw: a row's cells. head: the cells of the head.
 * current: index of the row the keyboard is at. onEnd: called near the end of the list.
 */
export function Rows({ rows, draw, head, columns, current, selected, onOpen, onEnd, onTop, label }) {
  const box = useRef(null);
  const [view, setView] = useState({ top: 0, height: 600 });
  const measure = () => {
    const { scrollTop, clientHeight } = box.current;
    setView({ top: scrollTop, height: clientHeight });
    onTop?.(scrollTop < ROW);
    if (scrollTop + clientHeight > (rows.length - 20) * ROW) onEnd?.();
  };
  useLayoutEffect(measure, [rows.length]);
  useEffect(() => {
    addEventListener("resize", measure);
    return () => removeEventListener("resize", measure);
  }, [rows.length]);
  useEffect(() => {
    if (current < 0) return;
    const top = current * ROW;
    const { scrollTop, clientHeight } = box.current;
    if (top < scrollTop) box.current.scrollTop = top;
    else if (top + 2 * ROW > scrollTop + clientHeight) box.current.scrollTop = top + 2 * ROW - clientHeight;
  }, [current]);
  const first = Math.max(0, Math.floor(view.top / ROW) - AHEAD);
  const last = Math.min(rows.length, Math.ceil((view.top + view.height) / ROW) + AHEAD);
  return html`<div class="vlist" ref=${box} onScroll=${measure} style=${{ height: `min(calc(100vh - 220px), ${(rows.length + 1) * ROW + 16}px)`, minHeight: "180px" }}
      tabindex="0" role="table" aria-label=${label} aria-rowcount=${rows.length + 1}>
    <div role="rowgroup"><div class=${`vhead ${columns}`} role="row" aria-rowindex="1">${head}</div></div>
    <div class="space" role="rowgroup" style=${{ height: `${rows.length * ROW}px` }}>
      ${rows.slice(first, last).map((row, offset) => {
        const index = first + offset;
        return html`<div key=${row.id} role="row" aria-rowindex=${index + 2} aria-selected=${selected?.has(row.id) ? "true" : "false"}
          class=${`vrow ${columns} ${index === current ? "current" : ""}`} style=${{ top: `${index * ROW}px` }}
          onDblClick=${() => onOpen?.(row)}>${draw(row, index)}</div>`;
      })}
    </div></div>`;
}
