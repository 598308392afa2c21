"""Alerts name what exists, fire when they should, and lead to a section of the guide."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from meterstream_aggregator.dedup import PRODUCER_HORIZON
from tests.infra.promql import faults, named
from tests.infra.series import EVERYWHERE, known_series

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "infra/prometheus"
DAY: Final = 86_400_000_000


def rules() -> list[dict[str, Any]]:
    """All alerts."""
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


RULES: Final = rules()


@pytest.mark.parametrize(
    ("expression", "wrong"),
    [
        ("sum(rate(meterstream_dlq_total[5m]))", []),
        ("sum(rate(meterstream_dlq[5m]))", ["meterstream_dlq is no metric"]),
        ("up{job='a'} == 0 and on (nothing) up", ["nothing has a label nothing"]),
        ('meterstream_dlq_total{kind="x"} > 5', ["meterstream_dlq_total has no label kind"]),
        (
            "meterstream_batch_duration_seconds > 1",
            ["meterstream_batch_duration_seconds is no metric"],
        ),
        ("1 + 1", ["no metric in '1 + 1'"]),
    ],
)
def test_the_reader_of_expressions_finds_faults(expression: str, wrong: list[str]) -> None:
    """A name, a label and a grouping that do not exist are each told."""
    assert faults(expression, known_series(), EVERYWHERE) == wrong


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_names_what_exists(rule: dict[str, Any]) -> None:
    """Its metrics are in the reference, with the labels that it matches and groups by."""
    assert faults(rule["expr"], known_series(), EVERYWHERE) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_it_means(rule: dict[str, Any]) -> None:
    """It has a severity of two, a sentence, and a section of the guide that it leads to."""
    notes = rule["annotations"]

    assert rule["labels"] == {"severity": rule["labels"]["severity"]}
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert notes["summary"].endswith(".")
    assert notes["description"].endswith(".")
    assert notes["runbook_url"] == f"docs/on-call.md#{rule['alert'].lower()}"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_has_a_test_in_which_it_fires(rule: dict[str, Any]) -> None:
    """Promtool is given series by which it must fire."""
    text = (FOLDER / "alerts.test.yml").read_text("utf-8")

    assert f'{{alertname="{rule["alert"]}"}}' in text


def test_tests_feed_series_that_exist() -> None:
    """A test that fires on a made-up series would prove nothing."""
    known = known_series()
    cases = yaml.safe_load((FOLDER / "alerts.test.yml").read_text("utf-8"))["tests"]

    wrong = {
        fault
        for case in cases
        for series in case["input_series"]
        for fault in faults(series["series"], known, EVERYWHERE)
    }

    assert wrong == set()


def test_alerts_watch_the_jobs_that_are_scraped() -> None:
    """An alert on a job that nobody scrapes would stay quiet, or fire for ever."""
    scraped = yaml.safe_load((FOLDER / "prometheus.yml").read_text("utf-8"))["scrape_configs"]
    jobs = {job["job_name"] for job in scraped}

    watched = {job for rule in RULES for job in re.findall(r'job="([^"]+)"', rule["expr"])}

    assert watched
    assert watched <= jobs


def test_the_spools_alert_comes_before_the_horizon() -> None:
    """Two thirds of how long a silent producer's numbers are judged."""
    [rule] = [rule for rule in RULES if rule["alert"] == "MeterstreamSpoolTooOld"]
    [(days)] = re.findall(r"> (\d+) \* 86400", rule["expr"])

    assert int(days) * DAY * 3 == PRODUCER_HORIZON * 2
    assert named(rule["expr"]).metrics == {"meterstream_sdk_oldest_unacknowledged_seconds"}


@pytest.fixture(scope="module")
def promtool() -> str:
    """Prometheus' own checker: named, on the PATH, or where `make promtool` puts it."""
    beside = Path(sys.executable).parent / "promtool"
    found = os.environ.get("METERSTREAM_TEST_PROMTOOL") or shutil.which("promtool")
    if not found and beside.is_file():
        found = str(beside)
    if not found:
        pytest.skip("promtool is not here: `make promtool` fetches it on Debian, without root")
    return found


def test_promtool_accepts_the_files(promtool: str) -> None:
    """Rules and configuration are valid to Prometheus itself."""
    for arguments in (
        ["check", "rules", "alerts.yml"],
        ["check", "config", "--syntax-only", "prometheus.yml"],
    ):
        ended = subprocess.run(
            [promtool, *arguments], cwd=FOLDER, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert "SUCCESS" in ended.stdout


def test_alerts_fire_and_stay_quiet(promtool: str, tmp_path: Path) -> None:
    """Every case of alerts.test.yml holds, and a changed limit would be noticed."""
    changed = tmp_path / "changed"
    shutil.copytree(FOLDER, changed)
    rules = changed / "alerts.yml"
    rules.write_text(rules.read_text("utf-8").replace("> 0.001", "> 0.1"), "utf-8")
    cases = yaml.safe_load((FOLDER / "alerts.test.yml").read_text("utf-8"))
    cases["tests"] = [each for each in cases["tests"] if "refused" in each["name"]]
    (changed / "alerts.test.yml").write_text(yaml.safe_dump(cases), "utf-8")

    ended = [
        subprocess.run(
            [promtool, "test", "rules", "alerts.test.yml"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        for folder in (FOLDER, changed)
    ]

    assert ended[0].returncode == 0, ended[0].stdout + ended[0].stderr
    assert "SUCCESS" in ended[0].stdout
    assert ended[1].returncode != 0
    assert "MeterstreamDeadLetters" in ended[1].stdout + ended[1].stderr
