// The editor: highlighting, brackets, and the keys that programmers expect.
import { createEditor } from "prism-code-editor";
import { defaultCommands, editHistory } from "prism-code-editor/commands";
import { highlightBracketPairs } from "prism-code-editor/highlight-brackets";
import { matchBrackets } from "prism-code-editor/match-brackets";
import "prism-code-editor/languages/clike";
import "prism-code-editor/languages/python";
import "prism-code-editor/prism/languages/bash";
import "prism-code-editor/prism/languages/cpp";
import "prism-code-editor/prism/languages/go";
import "prism-code-editor/prism/languages/java";
import "prism-code-editor/prism/languages/javascript";
import "prism-code-editor/prism/languages/json";
import "prism-code-editor/prism/languages/python";
import "prism-code-editor/prism/languages/rust";
import "prism-code-editor/layout.css";
import { useEffect, useRef } from "preact/hooks";
import { html } from "../html.js";

const GRAMMARS = { sh: "bash", typescript: "javascript" };
/** Larger programs are shown plain: highlighting them would hold up typing. */
const HIGHLIGHTED = 200_000;

export function Editor({ code, language, onInput, label, readOnly = false, onRun }) {
  const box = useRef(null);
  const editor = useRef(null);
  const latest = useRef({});
  latest.current = { onInput, onRun };
  useEffect(() => {
    const made = createEditor(box.current, { value: code, language: grammar(language, code), lineNumbers: true, readOnly, tabSize: 4, insertSpaces: language !== "go" },
      matchBrackets(), highlightBracketPairs(), ...(readOnly ? [] : [defaultCommands(), editHistory()]));
    made.textarea.setAttribute("aria-label", label);
    made.textarea.spellcheck = false;
    made.on("update", (value) => latest.current.onInput?.(value));
    made.textarea.addEventListener("keydown", (event) => {
      if ((event.ctrlKey || event.metaKey) && event.key === "Enter") {
        event.preventDefault();
        latest.current.onRun?.();
      }
    });
    editor.current = made;
    return () => made.remove();
  }, []);
  useEffect(() => {
    const value = editor.current.value === code ? {} : { value: code };
    editor.current.setOptions({ ...value, language: grammar(language, code) });
  }, [code, language]);
  return html`<div class=${`editor ${readOnly ? "shown" : ""}`} ref=${box}></div>`;
}

const grammar = (language, code) => (code.length > HIGHLIGHTED ? "plain" : GRAMMARS[language] ?? language);
