"""What the package ``sandbox-fusion`` makes of a service; run in an environment that has it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import sandbox_fusion  # type: ignore[import-not-found]  # not in this project's environment
from sandbox_fusion import RunCodeRequest, run_code

sandbox_fusion.set_sandbox_endpoint(sys.argv[1])
cases: list[dict[str, object]] = [
    {"code": "print(input())", "language": "python", "stdin": "hi"},
    {"code": "raise SystemExit(3)", "language": "python"},
    {"code": "while True: pass", "language": "python", "run_timeout": 0.5},
    {"code": "console.log(6 * 7)", "language": "nodejs"},
    {"code": "int main( {", "language": "cpp"},
]
corpus = json.loads(Path(__file__).with_name("corpus.json").read_text())
names = {"javascript": "nodejs"}
cases += [
    {"code": one["code"], "language": names.get(one["language"], one["language"]), "stdin": "20 22"}
    for one in corpus["good"]
    if one["language"] != "c"  # which the package does not know, unlike TypeScript
]
ADDS = """\
import { readFileSync } from "fs";
const numbers: number[] = readFileSync(0, "utf8").trim().split(" ").map(Number);
console.log(numbers.reduce((sum: number, next: number): number => sum + next));
"""
cases.append({"code": ADDS, "language": "typescript", "stdin": "20 22", "compile_timeout": 60})
mapping = sandbox_fusion.models.SummaryMapping(
    Success="ok", Failed="failed", CompileFailed="not compiled", RunTimeout="slow"
)
summaries = []
for case in cases:
    result = run_code(RunCodeRequest.parse_obj(case), max_attempts=1, client_timeout=60)
    stdout = result.run_result.stdout if result.run_result else None
    summaries.append([sandbox_fusion.client.summary_run_code_result(result, mapping), stdout])
print(json.dumps(summaries))
