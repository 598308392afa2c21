"""Kill everything, again and again, and let an independent judge look: ``make campaign``.

Progress on stderr, the judge's line on stdout; exit status 0 only with that line. What a failed
campaign leaves (logs, journals, store, copies of the topics) stays in its directory.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.campaign.runner import Campaign, run


def main() -> int:
    """One campaign."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--cycles", type=int, default=30, help="faults, or pairs of them")
    parser.add_argument("--pairs", type=int, help="from this cycle on in pairs; default: half")
    parser.add_argument("--seed", type=int, help="default: a random one, which is printed")
    parser.add_argument("--store", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--rate", type=int, default=600, help="events per second in all")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no cycle after these")
    parser.add_argument("--only", action="append", default=[], help="only faults of this name")
    parser.add_argument("--place", type=Path, help="directory to keep; default: a temporary one")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    place = options.place or new_place()
    campaign = Campaign(
        place=place,
        store=options.store,
        cycles=options.cycles,
        seed=seed,
        rate=options.rate,
        pairs=options.cycles // 2 if options.pairs is None else options.pairs,
        only=tuple(options.only),
        seconds=options.minutes * 60,
    )
    again = f"--store {options.store} --cycles {options.cycles} --seed {seed}"
    _say(f"{again}, in {place}")
    try:
        result = run(campaign, _say)
    except BaseException:
        _say(f"FAILED: {again}; what is left is in {place}")
        raise
    _say(f"faults: {dict(result.faults.most_common())}")
    _say(f"killed: {dict(result.killed)} ({result.killed.total()} in all)")
    _say(f"gave up and were started again: {dict(result.gave_up)}")
    if not result.line:
        _say(f"FAILED: {again}; what is left is in {place}")
        return 1
    _say(f"{result.seconds:.0f} s")
    sys.stdout.write(f"{result.line}\n")
    if options.place is None:
        shutil.rmtree(place)
    return 0


def new_place() -> Path:
    """A temporary directory that others may pass: PostgreSQL does not run as root."""
    place = Path(tempfile.mkdtemp(prefix="campaign-"))
    place.chmod(0o711)
    return place


def _say(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
