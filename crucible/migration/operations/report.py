"""A comparison as a page for people, with nothing loaded from elsewhere."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from crucible.migration.comparison import Kind

if TYPE_CHECKING:
    from crucible.migration.comparison import Comparison, Resources
    from crucible.migration.operations.compare import Report

_COLOURS = {
    Kind.EQUAL: "#1a7f37",
    Kind.MISMATCH: "#cf222e",
    Kind.NONDETERMINISTIC: "#9a6700",
    Kind.NOT_RUN: "#cf222e",
}


def html(report: Report) -> str:
    """The whole page."""
    counts = ", ".join(f"{number} {name}" for name, number in report.counts.items())
    # What needs a look comes first.
    order = sorted(report.programs, key=lambda one: one.kind is Kind.EQUAL)
    rows = "".join(map(_row, order))
    return _PAGE.format(counts=escape(counts), rows=rows)


def _row(one: Comparison) -> str:
    differences = "".join(
        f"<dt>{escape(found.field)}</dt><dd>legacy <code>{escape(found.legacy)}</code></dd>"
        f"<dd>celery <code>{escape(found.celery)}</code></dd>"
        for found in one.differences
    )
    detail = f"<p>{escape(one.detail)}</p>" if one.detail else ""
    return (
        f'<tr><td>{escape(one.name)}</td><td style="color:{_COLOURS[one.kind]}">{one.kind}</td>'
        f"<td>{_used(one.legacy)}</td><td>{_used(one.celery)}</td>"
        f"<td><dl>{differences}</dl>{detail}</td></tr>"
    )


def _used(used: Resources) -> str:
    return f"{used.wall_time_ms} ms, {used.memory_peak_kb / 1024:.1f} MiB"


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Legacy and Celery compared</title>
<style>body{{font:15px/1.5 system-ui;max-width:75rem;margin:2rem auto;padding:0 1rem}}
table{{border-collapse:collapse}}td,th{{padding:.3rem .8rem;vertical-align:top;text-align:left;
border-bottom:1px solid #ddd}}dl,dd,p{{margin:0}}code{{white-space:pre-wrap}}</style></head>
<body><h1>Legacy and Celery compared</h1><p>{counts}</p>
<table><thead><tr><th>program</th><th>outcome</th><th>legacy used</th><th>celery used</th>
<th>differences</th></tr></thead><tbody>{rows}</tbody></table></body></html>
"""
