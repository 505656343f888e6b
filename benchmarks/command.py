"""The whole command, stage by stage, beside decoding all frames of the clip: ``python -m benchmarks.command [CLIP]``.

Each run is a process of its own, as a user starts it. Start-up is what no stage accounts for: Python, torch, printing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STAGES = ("read", "encode", "select", "measure", "draw")


def run(clip: Path, *words: str, cache: Path) -> dict[str, float]:
    """Seconds of the stages of one ``stgraph compress``, of its start-up and of all together."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "stgraph", "compress", str(clip), "-o", f"{folder}/run", "--quiet", *words]
        start = time.perf_counter()
        subprocess.run(command, check=True, env={**os.environ, "STGRAPH_CACHE": str(cache)})
        whole = time.perf_counter() - start
        stages = json.loads(Path(folder, "run", "selection.json").read_text("utf-8"))["stages"]
    return {"start-up": whole - sum(stages.values()), **stages, "together": whole}


def decoding(clip: Path) -> float:
    """Seconds to decode all frames of a clip and do nothing with them."""
    import av

    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        with av.open(str(clip)) as container:
            container.streams.video[0].thread_type = "AUTO"
            for _ in container.decode(video=0):
                pass
        best = min(best, time.perf_counter() - start)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", nargs="*", type=Path, help="the rendered sample clip when none is named")
    parser.add_argument("--repeats", type=int, default=3, help="the fastest of so many runs is shown")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if not given.clips:
            from stgraph.sample import render_sample

            given.clips = [render_sample(Path(folder) / "sample.mp4").path]
        heads = ("run", "start-up", *STAGES, "together")
        print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
        for clip in given.clips:
            cache = Path(folder) / "cache"
            rows = {"all measured": ("--no-cache", "--exact"), "as it is": ("--no-cache",), "first": (), "again": ()}
            for name, words in rows.items():
                found = [run(clip, *words, cache=cache) for _ in range(1 if name == "first" else given.repeats)]
                best = min(found, key=lambda seconds: seconds["together"])
                print(f"| {clip.name}, {name} | " + " | ".join(f"{best[head]:.2f} s" for head in heads[1:]) + " |")
            print(f"{clip.name}: decoding all frames alone takes {decoding(clip):.2f} s")


if __name__ == "__main__":
    main()
