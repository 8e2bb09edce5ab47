// Programs as they are written, shared and asked for again.
import { key } from "./api.js";

export const EXAMPLES = {
  python: "print(6 * 7)\n",
  javascript: "console.log(6 * 7);\n",
  bash: "echo $((6 * 7))\n",
  sh: "echo $((6 * 7))\n",
  c: '#include <stdio.h>\n\nint main(void) {\n    printf("%d\\n", 6 * 7);\n    return 0;\n}\n',
  cpp: "#include <iostream>\n\nint main() {\n    std::cout << 6 * 7 << '\\n';\n}\n",
  go: 'package main\n\nimport "fmt"\n\nfunc main() {\n\tfmt.Println(6 * 7)\n}\n',
  rust: 'fn main() {\n    println!("{}", 6 * 7);\n}\n',
  java: "public class Main {\n    public static void main(String[] args) {\n        System.out.println(6 * 7);\n    }\n}\n",
};
export const ENDINGS = { python: "py", javascript: "js", bash: "sh", sh: "sh", c: "c", cpp: "cpp", go: "go", rust: "rs", java: "java" };

export const emptyDraft = () => ({ language: "python", code: EXAMPLES.python });

/** The body of a submission: a draft without what is empty. */
export function bodyOf(draft) {
  const kept = Object.entries(draft).filter(([, value]) => {
    if (value === "" || value === null || value === undefined) return false;
    if (Array.isArray(value)) return value.length > 0;
    return typeof value !== "object" || Object.keys(value).length > 0;
  });
  return Object.fromEntries(kept);
}

/** The fields of a request as a draft: without what is as it is anyway. */
export function draftOf(request) {
  const usual = { stdin_encoding: "utf-8", stop: "never", priority: 5 };
  const { eval_id: _, ...rest } = request;
  return bodyOf(Object.fromEntries(Object.entries(rest).filter(([name, value]) => usual[name] !== value)));
}

/** A draft as text for a fragment: compressed JSON, so it never reaches a server's log. */
export async function packed(draft) {
  const stream = new Blob([JSON.stringify(bodyOf(draft))]).stream().pipeThrough(new CompressionStream("deflate-raw"));
  const found = new Uint8Array(await new Response(stream).arrayBuffer());
  let text = "";
  for (const byte of found) text += String.fromCharCode(byte);
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

const LARGEST = 1 << 22;

/** The inverse; rejects where the text is no draft. */
export async function unpacked(text) {
  const raw = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  const stream = new Blob([Uint8Array.from(raw, (letter) => letter.charCodeAt(0))]).stream();
  const reader = stream.pipeThrough(new DecompressionStream("deflate-raw")).getReader();
  const decoder = new TextDecoder();
  let json = "";
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    json += decoder.decode(part.value, { stream: true });
    if (json.length > LARGEST) throw new Error("too large");
  }
  const draft = JSON.parse(json);
  if (typeof draft?.code !== "string") throw new Error("no program");
  return draft;
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

export function asCurl(draft) {
  const auth = key.value ? ` \\\n  -H "Authorization: Bearer $CRUCIBLE_API_KEY"` : "";
  return `curl -sS '${location.origin}/api/eval?wait=20'${auth} \\\n  -H 'Content-Type: application/json' -d ${quoted(JSON.stringify(bodyOf(draft)))}`;
}

export function asPython(draft) {
  const { code, ...more } = bodyOf(draft);
  const options = Object.entries(more).map(([name, value]) => `, ${name}=${pythonOf(value)}`).join("");
  const note = key.value ? "# takes its key from CRUCIBLE_API_KEY\n" : "";
  return `${note}from crucible.client import Crucible\n\nwith Crucible("${location.origin}") as client:\n    evaluation = client.run(${pythonOf(code)}${options})\n    print(evaluation.output)\n`;
}

function pythonOf(value) {
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) return `[${value.map(pythonOf).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}: ${pythonOf(one)}`).join(", ")}}`;
  return JSON.stringify(value);
}

/** The same for the command line; what has no flag of its own is left to the other two. */
export function asCli(draft) {
  const flags = [`--language ${quoted(draft.language ?? "python")}`];
  if (draft.environment) flags.push(`--environment ${quoted(draft.environment)}`);
  for (const one of draft.args ?? []) flags.push(`--arg ${quoted(one)}`);
  for (const [name, value] of Object.entries(draft.env ?? {})) flags.push(`--env ${quoted(`${name}=${value}`)}`);
  for (const [name, value] of Object.entries(draft.limits ?? {})) flags.push(`--limit ${name}=${value}`);
  if (draft.priority !== undefined) flags.push(`--priority ${draft.priority}`);
  const stdin = draft.stdin ? ` \\\n  --stdin <(printf %s ${quoted(draft.stdin)})` : "";
  return `crucible submit - ${flags.join(" ")}${stdin} <<'PROGRAM'\n${draft.code.replace(/\n?$/, "\n")}PROGRAM`;
}
