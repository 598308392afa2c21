"""The judge as a program: ``read`` copies the topics into files, ``judge`` judges by files.

`judge` prints each finding on a line of its own and ends with status 1; or, when there is none, one
line that begins with the words ``CAMPAIGN VERIFIED:``. Whoever waits for that line takes silence
for a failure.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Final

from tests.campaign.verifier.journals import Journals
from tests.campaign.verifier.judging import (
    Topics,
    against_journals,
    against_letters,
    against_store,
)
from tests.campaign.verifier.records import read_records, read_topic, write_records
from tests.campaign.verifier.rules import read_rules
from tests.campaign.verifier.stored import Stored, read_store
from tests.campaign.verifier.walking import Finding, Walk

TOKEN: Final = "CAMPAIGN VERIFIED:"
_SHOWN_MAX: Final = 200


def main() -> int:
    """Read or judge, as the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign.verifier")
    verbs = parser.add_subparsers(dest="verb", required=True)
    read = verbs.add_parser("read")
    read.add_argument("--bootstrap", required=True)
    read.add_argument("--topic", required=True)
    read.add_argument("--letters", required=True, help="the dead letters' topic")
    judging = verbs.add_parser("judge")
    judging.add_argument("--store", required=True, help="a file, or postgresql://…?schema=…")
    judging.add_argument("--journals", type=Path, required=True)
    judging.add_argument("--meters", type=Path, required=True)
    judging.add_argument("--schema", type=Path, required=True, help="the events' .avsc file")
    for verb in (read, judging):
        verb.add_argument("--files", type=Path, required=True, help="directory of the copies")
    options = parser.parse_args()
    if options.verb == "read":
        return _read(options.bootstrap, options.topic, options.letters, options.files)
    findings, summary = judge(
        store=options.store,
        journals=options.journals,
        meters=options.meters,
        schema=options.schema,
        files=options.files,
    )
    if findings:
        return _tell(findings)
    sys.stdout.write(f"{TOKEN} {summary}\n")
    return 0


def _read(servers: str, topic: str, letters: str, files: Path) -> int:
    files.mkdir(parents=True, exist_ok=True)
    records, ends = read_topic(servers, topic)
    write_records(files / "events.log", records)
    write_records(files / "letters.log", read_topic(servers, letters)[0])
    (files / "topic.json").write_text(json.dumps({"name": topic, "ends": ends}), "utf-8")
    return 0


def judge(
    *, store: str, journals: Path, meters: Path, schema: Path, files: Path
) -> tuple[list[Finding], str]:
    """Everything that is not as it must be, and what there was in one line."""
    rules, told_of = read_rules(meters), Journals()
    told_of.read(journals)
    told = json.loads((files / "topic.json").read_text("utf-8"))
    topics = Topics(told["name"], {int(p): end for p, end in told["ends"].items()})
    walk = Walk(rules, told_of, schema)
    walk.take(read_records(files / "events.log"))
    stored = read_store(store, {rule.name: rule.aggregate for rule in rules.rules})
    findings = [
        *walk.findings,
        *against_journals(told_of, walk),
        *against_store(walk, stored, topics),
        *against_letters(walk, read_records(files / "letters.log"), topics.name),
    ]
    if not told_of.promised() or not walk.seen:
        findings.append(Finding("nothing", "no event was promised: this proves nothing"))
    return findings, _summary(told_of, walk, stored)


def _tell(findings: list[Finding]) -> int:
    for finding in findings[:_SHOWN_MAX]:
        sys.stdout.write(f"{finding.what}: {finding.detail}\n")
    kinds = Counter(finding.what for finding in findings)
    sys.stdout.write(f"{len(findings)} findings: {dict(kinds.most_common())}\n")
    return 1


def _summary(journals: Journals, walk: Walk, stored: Stored) -> str:
    promised = journals.promised()
    failed = journals.failed - promised
    unknown = journals.intents.keys() - promised - failed
    reasons = Counter(outcome for outcome in walk.seen.values() if outcome != "counted")
    tallies = walk.tallies.values()
    counted = sum(tally.counted for tally in tallies)
    repeats = sum(tally.duplicates for tally in tallies)
    missing = sum(_missing(each.numbers, each.claimed) for each in walk.incarnations.values())
    return (
        f"{len(journals.intents)} events intended in {journals.attempts} attempts: "
        f"{len(promised)} acknowledged ({len(journals.acknowledged)} in the log, "
        f"{len(promised - journals.acknowledged)} on disk), {len(failed)} failed, "
        f"{len(unknown)} unknown of which {len(unknown & walk.seen.keys())} are in the log; "
        f"{walk.records} records, {counted} counted, "
        f"{repeats} repeats, {len(walk.letters)} dead letters ({len(reasons)} reasons of events), "
        f"{len(walk.usage.rows())} usage rows, {walk.usage.late} late contributions, "
        f"{len(walk.usage.items)} items, {len(walk.sessions.facts)} sessions and subjects, "
        f"{len(walk.incarnations)} producers by partition, {missing} numbers known to be missing, "
        f"{stored.epochs} claims; lost 0, doubled 0, phantom 0, altered 0, moved 0"
    )


def _missing(numbers: dict[int, set[int]], claimed: dict[int, int]) -> int:
    lanes = numbers.keys() | claimed.keys()
    return sum(
        max([claimed.get(lane, 0), *numbers.get(lane, ())]) - len(numbers.get(lane, ()))
        for lane in lanes
    )


if __name__ == "__main__":
    sys.exit(main())
