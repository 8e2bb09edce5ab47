from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


async def bench(*arguments: str, cwd: Path) -> tuple[int, str]:
    """Exit code and everything printed by ``crucible bench``."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "crucible", "bench", *arguments),
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(120):
        output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def test_a_small_run_end_to_end(tmp_path: Path) -> None:
    """A tiny run measures real processes, writes JSON and plots, and compares with itself."""
    first, plots = tmp_path / "first.json", tmp_path / "plots"
    tiny = ("batch", "--subjects", "crucible send_batch,crucible send_task x100")
    size = ("--repeats", "2", "--seconds", "0.2", "--scale", "0.01")
    code, output = await bench(*tiny, *size, "--json", str(first), "--plot", str(plots), cwd=ROOT)
    assert code == 0, output
    document = json.loads(first.read_text())
    rates = [f for f in document["figures"] if f["metric"] == "messages_per_s"]
    assert {figure["subject"] for figure in rates} == set(tiny[2].split(","))
    assert all(len(figure["values"]) == 2 and min(figure["values"]) > 0 for figure in rates)
    assert document["machine"]["cores"] >= 1
    assert document["machine"]["versions"]["aiohttp"]
    assert (plots / "throughput.svg").stat().st_size > 1000
    code, output = await bench(*tiny, *size, "--compare", str(first), cwd=ROOT)
    assert code == 0, output
    assert "compared with the earlier run" in output


async def test_a_worker_run_end_to_end(tmp_path: Path) -> None:
    """Real worker processes work through a real list and their rate is found."""
    result = tmp_path / "worker.json"
    size = ("--repeats", "1", "--seconds", "1", "--scale", "0.2", "--json", str(result))
    code, output = await bench("worker", "--subjects", "crucible one process", *size, cwd=ROOT)
    assert code == 0, output
    figures = {f["metric"]: f["values"] for f in json.loads(result.read_text())["figures"]}
    assert figures["tasks_per_s"][0] > 0
    assert figures["worker_cpu_us"][0] > 0


async def test_mistakes_are_one_line(tmp_path: Path) -> None:
    """An unknown scenario, subject or file ends with one line and no traceback."""
    for arguments, named in (
        (("nosuch",), "nosuch"),
        (("batch", "--subjects", "nosuch"), "nosuch"),
        (("batch", "--only", "wait"), "--only"),
        (("all", "--only", "nosuch"), "nosuch"),
        (("batch", "--compare", str(tmp_path / "none.json")), "none.json"),
    ):
        code, output = await bench(*arguments, cwd=ROOT)
        assert code == 1
        assert named in output
        assert "Traceback" not in output


async def test_a_run_of_the_features_end_to_end(tmp_path: Path) -> None:
    """Servers with and without them side by side: no submission fails, and the cost is judged."""
    result = tmp_path / "features.json"
    both = ("--subjects", "off,history+metrics+events+1 % traces")
    size = ("--repeats", "1", "--seconds", "0.4", "--json", str(result))
    code, output = await bench("submit", "--features", *both, *size, cwd=ROOT)
    # So short a measurement may come to either verdict.
    assert code in (0, 1), output
    found = json.loads(result.read_text())
    assert found["failures"] == []
    figures = {(f["subject"], f["metric"]): f["values"][0] for f in found["figures"]}
    assert len({subject for subject, _ in figures}) == 2
    for (subject, metric), value in figures.items():
        assert (value == 0) if metric == "error_share" else (value > 0), (subject, metric)
    code, output = await bench("batch", "--features", cwd=ROOT)
    assert (code, "--features" in output) == (1, True)


async def test_budgets_end_to_end(tmp_path: Path) -> None:
    """A tiny run of two paths beside their probes; with ``--report`` nothing fails."""
    result = tmp_path / "budgets.json"
    size = ("--repeats", "2", "--scale", "0.05", "--json", str(result))
    paths = ("--subjects", "task,submission")
    code, output = await bench("budgets", "--report", *paths, *size, cwd=ROOT)
    assert code == 0, output
    found = {one["path"]: one for one in json.loads(result.read_text())}
    assert found.keys() == {"submission", "task"}
    for one in found.values():
        assert one["ratio"]["repeats"] == 2
        assert min(one["us"]["low"], one["probe_us"]["low"]) > 0
        assert one["noise"] >= 0
    code, output = await bench("budgets", "--subjects", "nothing", cwd=ROOT)
    assert (code, "nothing" in output, "Traceback" in output) == (1, True, False)


async def test_an_endurance_run_end_to_end(tmp_path: Path) -> None:
    """One worker process lives through all parts, and its memory is looked at after each."""
    result = tmp_path / "endurance.json"
    size = ("--subjects", "crucible", "--repeats", "1", "--scale", "0.002", "--json", str(result))
    code, output = await bench("endurance", *size, cwd=ROOT)
    assert code == 0, output
    figures = {f["metric"]: f["values"] for f in json.loads(result.read_text())["figures"]}
    assert figures["tasks_count"] == [4000]
    assert 10 < figures["resident_mb"][0] < 300
    assert len(figures["resident_growth_share"]) == 1


async def test_a_migration_run_end_to_end(tmp_path: Path) -> None:
    """Both paths are measured through real processes, and none refuses a submission."""
    result = tmp_path / "migration.json"
    modes = "legacy only,celery primary"
    size = ("--repeats", "1", "--seconds", "0.3", "--json", str(result))
    code, output = await bench("migration", "--subjects", modes, *size, cwd=ROOT)
    assert code == 0, output
    found = json.loads(result.read_text())["figures"]
    for subject in modes.split(","):
        figures = {f["metric"]: f["values"] for f in found if f["subject"] == subject}
        assert max(figures["error_share"]) == 0
        for metric in ("roundtrips_per_s", "submits_per_s", "submit_at_200_per_s_p99_ms"):
            assert figures[metric][0] > 0, metric


async def test_a_history_run_end_to_end(tmp_path: Path) -> None:
    """A historian writes what is fed, in parts and at a steady rate, and its lag is looked at."""
    result = tmp_path / "history.json"
    size = ("--subjects", "bare sqlite,sqlite", "--repeats", "1", "--scale", "0.01")
    code, output = await bench("history", *size, "--json", str(result), cwd=ROOT)
    assert code in (0, 1), output
    found = json.loads(result.read_text())["figures"]
    figures = {f["metric"]: f["values"][0] for f in found if f["subject"] == "sqlite"}
    for metric in ("evaluations_per_s", "cpu_us_per_evaluation", "resident_mb"):
        assert figures[metric] > 0
    assert 0 <= figures["lag_at_2000_per_s_max_s"] < 60


async def test_a_run_of_the_services_parts_end_to_end(tmp_path: Path) -> None:
    """Reward loop, assessment and event streams, each beside its limit, and how long each took."""
    result = tmp_path / "parts.json"
    parts = ("rewards", "assessments", "sse")
    size = ("--repeats", "1", "--scale", "0.02", "--json", str(result))
    code, output = await bench("all", "--only", ",".join(parts), *size, cwd=ROOT)
    # So short a measurement may come to either verdict.
    assert code in (0, 1), output
    found = json.loads(result.read_text())
    assert found["failures"] == []
    figures = {(f["scenario"], f["subject"], f["metric"]): f["values"][0] for f in found["figures"]}
    for limit in (
        ("rewards", "bare processes", "rewards_per_s"),
        ("assessments", "plain batch", "cases_per_s"),
        ("sse", "bare aiohttp", "events_per_s"),
    ):
        assert figures[limit] > 0
    for subject in ("facade", "api", "bare processes"):
        assert figures["rewards", subject, "wrong_or_lost_count"] == 0, output
    assert figures["assessments", "assessment", "cases_per_s"] > 0
    assert figures["sse", "crucible", "complete_share"] == 1
    assert found["took_s"].keys() == found["expected_s"].keys() == set(parts)
    assert f"min: rewards {found['expected_s']['rewards']:.0f} s" in output
