"""The command: ``python -m benchmarks.peers [CLIP ...] [--write]``.

On clips, methods that need attention or keys take them from the features (*). Known events are read from the
``.events.json`` beside a clip. What is known already is not measured again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from stgraph.selectors import SELECTORS

from .measure import CLOCKS, OUTCOMES, golden, load, quality, save, times
from .page import PAGE, TABLES, written


def main() -> None:
    """Measure what is asked for and not known yet, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("clips", nargs="*", type=Path, help="videos to measure coverage, error and recall on")
    parser.add_argument("--only", choices=["golden", "quality", "time", "page"], help="a part of it")
    parser.add_argument("--outcomes", type=Path, default=OUTCOMES, help="where figures are kept")
    parser.add_argument("--write", action="store_true", help="write the tables into docs/peers.md")
    parser.add_argument("--again", action="store_true", help="measure also what is known")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin nothing new after so many")
    parser.add_argument("--selectors", nargs="+", default=list(SELECTORS), metavar="NAME")
    parser.add_argument("--retentions", nargs="+", type=float, default=[0.1, 0.3, 0.5], help="on clips")
    parser.add_argument("--clip-frames", type=int, default=64)
    parser.add_argument("--retention", type=float, default=0.3, help="of the times")
    parser.add_argument("--frames", type=int, default=64, help="of the times")
    parser.add_argument("--dim", type=int, default=3584)
    parser.add_argument("--share", type=float, default=0.6, help="of the edges with a cosine of at least 0.8")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clock", choices=CLOCKS, default="cpu", help="cpu: of one thread, for a busy machine")
    given = parser.parse_args()
    outcomes, end = load(given.outcomes), time.monotonic() + 60 * given.minutes

    def steps() -> Iterator[str]:
        if given.only in (None, "golden"):
            yield from golden(outcomes)
        if given.only in (None, "quality"):
            for path in given.clips:
                yield from quality(
                    outcomes, path, given.selectors, given.retentions, given.clip_frames, again=given.again
                )
        if given.only in (None, "time"):
            yield from times(
                outcomes,
                given.selectors,
                retention=given.retention,
                frames=given.frames,
                dim=given.dim,
                share=given.share,
                rounds=given.rounds,
                clock=given.clock,
                again=given.again,
            )

    for said in steps():
        save(outcomes, given.outcomes)
        print(said, file=sys.stderr, flush=True)
        if time.monotonic() > end:
            print("the time is up; run this again to continue", file=sys.stderr, flush=True)
            break
    for table in TABLES.values():
        print(table(outcomes))
    if given.write:
        PAGE.write_text(written(PAGE.read_text("utf-8"), outcomes), "utf-8")


if __name__ == "__main__":
    main()
