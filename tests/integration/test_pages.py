"""The pages for people, and what they may load."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from support.api_rig import running_api

from crucible.api.openapi import description
from crucible.evaluation.limits import LimitsRequest
from crucible.evaluation.request import EvalRequest
from crucible.migration.state import Change


class Page(HTMLParser):
    """Elements and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep it."""
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Keep it."""
        self.text += f"{data} "

    def values(self, name: str) -> list[str]:
        """Every value of an attribute."""
        return [value for _, attrs in self.elements if (value := attrs.get(name)) is not None]


async def test_the_root_points_to_the_documentation(redis_url: str) -> None:
    """As JSON for programs and as a page for browsers."""
    async with running_api(redis_url) as client:
        async with client.get("/") as response:
            links = (await response.json())["links"]
        assert {"/docs", "/openapi.json"} <= set(links.values())
        async with client.get("/", headers={"Accept": "text/html,*/*"}) as response:
            assert response.content_type == "text/html"
            page = Page(await response.text())
        assert set(links.values()) <= set(page.values("href"))


async def test_the_documentation_has_every_operation_and_every_field(redis_url: str) -> None:
    """With an example and a form for each operation."""
    async with running_api(redis_url) as client, client.get("/docs") as response:
        page = Page(await response.text())
    operations = [
        (method.upper(), path)
        for path, methods in description()["paths"].items()
        for method in methods
    ]
    forms = [attrs for tag, attrs in page.elements if tag == "form"]
    assert [(form["data-method"], form["data-path"]) for form in forms] == operations
    assert page.text.count("curl -sS") == len(operations)
    for field in (*EvalRequest.__struct_fields__, *Change.__struct_fields__):
        assert re.search(rf"\b{field} .*\w", page.text)
    for limit in LimitsRequest.__struct_fields__:
        assert f"limits.{limit} " in page.text
    assert "seconds from the program's start to SIGKILL" in page.text
    assert "what the program reads on descriptor 0" in page.text
    assert "files[].content" in page.text
    anchors = {f"#{anchor}" for anchor in page.values("id")}
    assert {link for link in page.values("href") if link.startswith("#")} == anchors


@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_a_page_needs_nothing_but_this_service(redis_url: str, path: str) -> None:
    """No asset of another host, nothing inline, and a policy that would refuse both."""
    async with running_api(redis_url) as client:
        async with client.get(path, headers={"Accept": "text/html"}) as response:
            policy = response.headers["Content-Security-Policy"]
            page = Page(await response.text())
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        loaded = [*page.values("href"), *page.values("src")]
        assert all(value.startswith(("/", "#", "data:,")) for value in loaded)
        assert "style" not in {tag for tag, _ in page.elements}
        assert all("src" in attrs for tag, attrs in page.elements if tag == "script")
        assert not any(name.startswith("on") or name == "style"
                       for _, attrs in page.elements for name in attrs)  # fmt: skip
        kinds = {".js": "text/javascript", ".css": "text/css"}
        assets = [value for value in loaded if value.endswith(tuple(kinds))]
        assert len(assets) == 2
        for asset in assets:
            kind = kinds[asset[asset.rindex(".") :]]
            async with client.get(asset) as response:
                assert (response.status, response.content_type) == (200, kind)
