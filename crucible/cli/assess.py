"""``crucible assess``: runs a suite, shows how far it is, and writes its report."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from crucible.assessments.comparison import compare
from crucible.assessments.report import AssessmentReport
from crucible.cli.assess_tables import print_changes, print_report
from crucible.cli.assessing import Assessing
from crucible.cli.client import Url, api_of
from crucible.cli.flags import with_settings
from crucible.cli.options import Json
from crucible.cli.printing import print_json
from crucible.cli.suites import read_suite
from crucible.client.transport import Transport
from crucible.errors import ApiError
from crucible.settings import Settings
from crucible.settings.sections import Section

if TYPE_CHECKING:
    from crucible.assessments.comparison import Comparison
    from crucible.cli.client import Api

#: Seconds for which an API that does not answer is asked again.
RETRY_FOR_S = 30.0
#: File names of the report by format.
FILES = {"json": "report.json", "html": "report.html", "junit": "junit.xml"}


@with_settings(Section.LISTENING)
def command(
    settings: Settings,
    suite: Annotated[
        Path, typer.Argument(help="A JSON or TOML file, or a folder with suite.toml or programs.")
    ],
    name: Annotated[str | None, typer.Option(help="Default: the suite's own.")] = None,
    assessment_id: Annotated[str | None, typer.Option("--id", help="Your own id.")] = None,
    repetitions: Annotated[int | None, typer.Option(help="Of each case.", min=1)] = None,
    priority: Annotated[int | None, typer.Option(help="0 to 9; 9 is most urgent.")] = None,
    pass_score: Annotated[
        float | None, typer.Option(help="The score from which on it passes, 0 to 1.")
    ] = None,
    isolation: Annotated[str | None, typer.Option(help="container or nested.")] = None,
    environment: Annotated[str | None, typer.Option(help="The image to run in.")] = None,
    report: Annotated[
        Path, typer.Option(help="Folder for report.json, report.html and junit.xml.")
    ] = Path("assessment-report"),
    no_report: Annotated[bool, typer.Option("--no-report", help="Write no files.")] = False,
    baseline: Annotated[
        str | None,
        typer.Option("--compare", help="An earlier assessment: its id, or its report.json."),
    ] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Run a suite of programs and report on it; exit code 0 if it passes, 1 if it does not.

    Ctrl-C leaves it running and prints its id; the exit code is 130.
    """
    body = read_suite(suite)
    given = {
        "name": name, "assessment_id": assessment_id, "repetitions": repetitions,
        "priority": priority, "pass_score": pass_score, "isolation": isolation,
        "environment": environment,
    }  # fmt: skip
    body |= {key: value for key, value in given.items() if value is not None}
    earlier = _earlier(baseline)
    documents, changes = asyncio.run(
        _assessed(api_of(url, settings), body, None if earlier else baseline)
    )
    found = msgspec.json.decode(documents["json"], type=AssessmentReport)
    if earlier is not None:
        changes = compare(earlier, found)
    if not no_report:
        _write(report, documents)
    if as_json:
        shown = msgspec.to_builtins(found)
        print_json(shown if changes is None else {**shown, "comparison": changes})
    else:
        print_report(found)
        if changes is not None:
            print_changes(changes)
        if not no_report:
            typer.echo(f"The report is in {report / FILES['html']}.")
    if not found.summary.passed:
        raise typer.Exit(1)


async def _assessed(
    api: Api, body: dict[str, Any], baseline: str | None
) -> tuple[dict[str, bytes], Comparison | None]:
    """The report in all its formats, and what changed since an earlier assessment."""
    async with Transport(api.url, api.key, retry_for_s=RETRY_FOR_S) as transport:
        client = Assessing(transport)
        own_id = (await client.make(body))["assessment_id"]
        try:
            ended = await client.followed(own_id)
        except asyncio.CancelledError:
            typer.echo(f"crucible: the assessment goes on as {own_id}", err=True)
            raise
        if ended["status"] != "completed":
            said = f"{ended['status']}: {ended['message']}"
            raise ApiError(f"the assessment {own_id} is {said}")
        documents = {kind: await client.report(own_id, kind) for kind in FILES}
        changes = None if baseline is None else await client.compared(own_id, baseline)
    return documents, changes


def _write(folder: Path, documents: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for kind, name in FILES.items():
        (folder / name).write_bytes(documents[kind])


def _earlier(baseline: str | None) -> AssessmentReport | None:
    """The report that a path names; None where it is an id."""
    if baseline is None or not Path(baseline).is_file():
        return None
    try:
        return msgspec.json.decode(Path(baseline).read_bytes(), type=AssessmentReport)
    except (msgspec.DecodeError, OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{baseline}: {error}", param_hint="--compare") from None
