"""What the package ``pistonapi`` makes of a service; run in an environment that has it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pistonapi import PistonAPI  # type: ignore[import-not-found]  # not in this project's environment
from pistonapi.exceptions import PistonError  # type: ignore[import-not-found]

corpus = json.loads(Path(__file__).with_name("corpus.json").read_text())
api = PistonAPI(f"{sys.argv[1]}/api/v2/piston")
said: dict[str, object] = {"runtimes": {"python", "c"} <= set(api.languages)}
for one in corpus["good"]:
    said[one["language"]] = api.execute(one["language"], "*", one["code"], stdin=one["stdin"])
said["failing"] = api.execute("python", "*", corpus["failing"]["code"])
said["endless"] = api.execute("python", "*", corpus["endless"]["code"])
try:
    api.execute("cobol", "*", "x")
except PistonError as error:
    said["unknown"] = str(error)
print(json.dumps(said))
