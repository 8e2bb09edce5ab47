"""What the package ``judge0`` makes of a service; run in an environment that has it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import judge0  # type: ignore[import-not-found]  # not in this project's environment

client = judge0.Client(endpoint=sys.argv[1])
python, c = judge0.LanguageAlias.PYTHON3, judge0.LanguageAlias.C
corpus = json.loads(Path(__file__).with_name("corpus.json").read_text())
numbers = {"python": 71, "javascript": 63, "bash": 46, "c": 50, "cpp": 54}
sums = [(one["code"], numbers[one["language"]]) for one in corpus["good"]]
cases = [
    ("print(input())", python, "hi", "hi\n"),
    ("print(1)", python, None, "2"),
    ("raise SystemExit(3)", python, None, None),
    ("int main( {", c, None, None),
    *((code, language, "20 22", "42") for code, language in sums),
]
submissions = [
    judge0.Submission(source_code=code, language=language, stdin=stdin, expected_output=expected)
    for code, language, stdin, expected in cases
]
found = judge0.run(client=client, submissions=submissions)
print(json.dumps([[one.status.name, one.stdout] for one in found]))
