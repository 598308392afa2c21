"""Run many seeds: ``python -m tests.simulation --seeds 1000 --events 2000``."""

from __future__ import annotations

import argparse
import sys
import time
import traceback

from tests.simulation.laws import again, every_law


def main() -> int:
    """Try every law on every seed; say which failed, and how to run it again."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--events", type=int, default=300, help="how large each world is, about")
    asked = parser.parse_args()
    began, failed = time.monotonic(), 0
    for seed in range(asked.first, asked.first + asked.seeds):
        try:
            every_law(seed, asked.events)
        except Exception:  # noqa: BLE001 - whatever it is, the other seeds are tried too
            failed += 1
            traceback.print_exc()
            sys.stdout.write(f"seed {seed} failed; again: {again(seed, asked.events)}\n")
            sys.stdout.flush()
    took = time.monotonic() - began
    sys.stdout.write(f"{asked.seeds} seeds, {failed} failed, {took:.0f} s\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
