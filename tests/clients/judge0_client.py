"""What the package ``judge0`` makes of a service; run in an environment that has it."""

from __future__ import annotations

import json
import sys

import judge0  # type: ignore[import-not-found]  # not in this project's environment

client = judge0.Client(endpoint=sys.argv[1])
python, c = judge0.LanguageAlias.PYTHON3, judge0.LanguageAlias.C
cases = [
    ("print(input())", python, "hi", "hi\n"),
    ("print(1)", python, None, "2"),
    ("raise SystemExit(3)", python, None, None),
    ("int main( {", c, None, None),
]
submissions = [
    judge0.Submission(source_code=code, language=language, stdin=stdin, expected_output=expected)
    for code, language, stdin, expected in cases
]
found = judge0.run(client=client, submissions=submissions)
print(json.dumps([[one.status.name, one.stdout] for one in found]))
