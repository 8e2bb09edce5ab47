from __future__ import annotations

import pytest

from scripts.reference_pages import DOCS, PAGES


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_what_the_code_says(name: str) -> None:
    """Commands, settings and fields of events: every one, with its own words."""
    assert (DOCS / name).read_text() == PAGES[name](), "run python scripts/reference_pages.py"
