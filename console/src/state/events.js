// Server-sent events over fetch: unlike EventSource it can send the key in a header field.
import { fieldsOfRequest } from "./api.js";

const FIRST_MS = 500;
const LONGEST_MS = 10_000;

/** The frames in a piece of a stream: [frames, rest]. */
export function framesIn(text) {
  const blocks = text.split("\n\n");
  const rest = blocks.pop();
  return [blocks.map(frameOf), rest];
}

function frameOf(block) {
  const frame = { event: "message", id: "", data: "" };
  for (const line of block.split("\n")) {
    const at = line.indexOf(":");
    if (at < 1) continue;
    const name = line.slice(0, at);
    if (name in frame) frame[name] = line.slice(at + 1).trimStart();
  }
  return frame;
}

/** Follow a stream until its end or until `signal` aborts; connections that break are renewed. */
export async function follow(path, onEvent, signal) {
  let last = "";
  let pause = FIRST_MS;
  while (!signal.aborted) {
    try {
      const response = await fetch(path, { headers: fieldsOfRequest(last ? { "Last-Event-ID": last } : {}), signal, cache: "no-store" });
      if (response.status === 204 || response.status === 404 || response.status === 401) return;
      if (response.ok) {
        pause = FIRST_MS;
        for await (const frame of frames(response.body)) {
          if (frame.id) last = frame.id;
          if (frame.data) onEvent(frame.event, JSON.parse(frame.data));
        }
      }
    } catch (error) {
      if (error.name === "AbortError") return;
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
    pause = Math.min(LONGEST_MS, pause * 2);
  }
}

async function* frames(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  while (true) {
    const { value, done } = await reader.read();
    if (done) return;
    const [found, left] = framesIn(rest + value);
    rest = left;
    yield* found;
  }
}
