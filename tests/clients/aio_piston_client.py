"""What the package ``aio-piston`` makes of a service; run in an environment that has it.

Its address is fixed in it, so its session sends what is for that address to another.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import aiohttp
from aio_piston import ApiError, Tio  # type: ignore[import-not-found]  # not in this environment
from yarl import URL


class Redirected(aiohttp.ClientSession):
    """A session for which the one host is another."""

    async def _request(self, method: Any, url: Any, **options: Any) -> Any:  # type: ignore[override]  # any
        ours = URL(sys.argv[1]).with_path(URL(url).path)
        return await super()._request(method, ours, **options)


async def main() -> None:
    """Run the corpus."""
    corpus = json.loads(Path(__file__).with_name("corpus.json").read_text())
    said: dict[str, object] = {}
    async with Redirected() as session:
        client = await Tio(session=session)
        for one in corpus["good"]:
            found = await client.execute(
                one["code"], language=one["language"], inputs=one["stdin"], run_timeout=10_000
            )
            said[one["language"]] = [found.ran, found.stdout]
        for name in ("failing", "endless", "broken"):
            found = await client.execute(corpus[name]["code"], language=corpus[name]["language"])
            said[name] = [found.ran, found.stdout]
        try:
            await client.execute("x", language="cobol")
        except ApiError as error:
            said["unknown"] = str(error)
    print(json.dumps(said))


asyncio.run(main())
