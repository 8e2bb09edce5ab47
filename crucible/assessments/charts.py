"""Bar charts as inline SVG: no script, no style from elsewhere, every text escaped. Pure."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Pixels of a chart: its width, of the labels left of the bars, and from one bar to the next.
_WIDTH, _LABEL, _STEP = 560, 150, 24
_BAR = 16


def bars(title: str, rows: Sequence[tuple[str, int, str]]) -> str:
    """Horizontal bars.

    Args:
        title: what is shown, also for those who cannot see it.
        rows: label, value and CSS class of each bar.
    """
    most = max((value for _, value, _ in rows), default=0) or 1
    height = _STEP * len(rows)
    drawn = "".join(
        _bar(row, value, kind, number, most) for number, (row, value, kind) in enumerate(rows)
    )
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" role="img" aria-label="{escape(title)}">'
        f"{drawn}</svg></figure>"
    )


def _bar(label: str, value: int, kind: str, number: int, most: int) -> str:
    top = number * _STEP
    room = _WIDTH - _LABEL - 60
    width = max(1, round(room * value / most)) if value else 0
    middle = top + _BAR - 3
    return (
        f'<text x="{_LABEL - 8}" y="{middle}" text-anchor="end">{escape(label)}</text>'
        f'<rect class="{escape(kind)}" x="{_LABEL}" y="{top}" width="{width}" height="{_BAR}" '
        f'rx="2"/><text x="{_LABEL + width + 6}" y="{middle}">{value}</text>'
    )
