"""Requests per second and time to the first token of ``vllm serve``: without pruning, with EVS, with a selector.

    python -m benchmarks.serving                                            # a tiny random model
    python -m benchmarks.serving --model Qwen/Qwen2.5-VL-7B-Instruct --frames 64 --height 448 --width 448

Runs in an environment that has vLLM, such as that of ``make test-vllm``. Each way is a server of its own. Every request
holds a clip of its own, so no cache helps. On the CPU, vLLM's own EVS ends the engine (docs/serving.md, report 1), so
there the selector ``evs`` stands in for it, through the plugin.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

WARM_UP = 2


@contextlib.contextmanager
def served(model: str | Path, log: Path, environment: dict[str, str], *more: str) -> Iterator[str]:
    """A running server, and its address on this machine.

    Args:
        model: name or folder; requests name it ``tiny``.
        log: file for all that the server prints.
        environment: variables beside those of this process.
        more: further arguments of ``vllm serve``.

    Raises:
        RuntimeError: the server ended or did not answer within 15 minutes; the text is what it printed.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    command += ["--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(port), *more]
    settings = os.environ | environment
    settings.pop("VLLM_ENABLE_V1_MULTIPROCESSING", None)
    with log.open("w") as out:
        process = subprocess.Popen(command, env=settings, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
    address, end = f"http://127.0.0.1:{port}", time.monotonic() + 900
    try:
        while True:
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(log.read_text())
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=5) as answer:
                if answer.status == 200:
                    break
            time.sleep(1)
        yield address
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def body(clip: Path, text: str = "What happens?", **sampling: Any) -> dict[str, Any]:
    """A request to a chat with one video."""
    video = "data:video/mp4;base64," + base64.b64encode(clip.read_bytes()).decode()
    content = [{"type": "video_url", "video_url": {"url": video}}, {"type": "text", "text": text}]
    return {"model": "tiny", "temperature": 0, "messages": [{"role": "user", "content": content}], **sampling}


def post(address: str, content: dict[str, Any]) -> Any:
    """The answer as JSON, or the open stream of one that comes piece by piece."""
    url, kind = f"{address}/v1/chat/completions", {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(content).encode(), kind)
    answer = urllib.request.urlopen(request, timeout=900)
    if content.get("stream"):
        return answer
    with answer:
        return json.loads(answer.read())


def first_token(address: str, content: dict[str, Any]) -> float:
    """Seconds from the request to the first token; returns when the answer is whole."""
    start, first = time.perf_counter(), float("nan")
    with post(address, content | {"stream": True}) as stream:
        for line in stream:
            if not line.startswith(b"data: {"):
                continue
            choices = json.loads(line[len(b"data: ") :])["choices"]
            if first != first and choices and choices[0]["delta"].get("content"):
                first = time.perf_counter() - start
    return first


def load(address: str, clips: list[Path], in_flight: int, tokens: int) -> tuple[float, float]:
    """Requests per second and the median seconds to the first token, ``in_flight`` requests at a time."""
    contents = [body(clip, max_tokens=tokens, ignore_eos=True) for clip in clips]
    start = time.perf_counter()
    with ThreadPoolExecutor(in_flight) as pool:
        firsts = list(pool.map(lambda content: first_token(address, content), contents))
    return len(clips) / (time.perf_counter() - start), statistics.median(firsts)


def film(frames: int, height: int, width: int, seed: int) -> torch.Tensor:
    """(frames, 3, H, W) uint8: a still scene of large patches, one that moves, and some noise."""
    generator = torch.Generator().manual_seed(seed)
    scene = torch.randint(0, 256, (3, 8, 8), generator=generator).float()
    clip = torch.nn.functional.interpolate(scene[None], (height, width))[0].repeat(frames, 1, 1, 1)
    side = height // 6
    for number in range(frames):
        row, column = (7 * number) % (height - side), (5 * number) % (width - side)
        clip[number, :, row : row + side, column : column + side] = 255 * (seed % 2)
    return (clip + 6 * torch.randn(clip.shape, generator=generator)).clamp(0, 255).byte()


def grid_of(model: str | Path, frames: int, height: int, width: int) -> tuple[tuple[int, int, int], int]:
    """The grid of a video's tokens in this model, and their number of features."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(model)
    vision = config.vision_config
    side = vision.patch_size * vision.spatial_merge_size
    return (frames // vision.temporal_patch_size, height // side, width // side), config.text_config.hidden_size


def selecting(words: str, grid: tuple[int, int, int], dim: int, rate: float, repeats: int = 15) -> float:
    """Median milliseconds of the selector alone, for one video of this grid."""
    from stgraph.integrations.serving.contract import ServingSelector

    selector = ServingSelector.from_overrides(words.split(), strict=True)
    features = torch.randn(grid[0] * grid[1] * grid[2], dim, generator=torch.Generator().manual_seed(0))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        selector.mask(features, grid, rate)
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="name or folder of a Qwen2.5-VL or Qwen3-VL; a tiny random one when not given")
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--requests", type=int, default=32, help="for each number in flight")
    parser.add_argument("--rate", type=float, default=0.7, help="share of the video tokens that is dropped")
    parser.add_argument("--words", default="selector=simdiff", help="what STGRAPH_VLLM holds")
    parser.add_argument("--tokens", type=int, default=16, help="of each answer")
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--height", type=int, default=64)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--args", nargs=argparse.REMAINDER, default=[], help="all that follows goes to vllm serve")
    given = parser.parse_args()
    from stgraph.video import write_video

    with TemporaryDirectory() as folder:
        place = Path(folder)
        more = list(given.args)
        if given.model is None:
            from tests.integrations.serving import tiny

            given.model = tiny.folder(place / "model", "qwen2_5_vl")
            more += ["--dtype", "float32", "--enforce-eager", "--max-model-len", "8192"]
        clips = []
        for number in range(WARM_UP + given.requests * len(given.in_flight)):
            clips.append(place / f"{number}.mp4")
            write_video(clips[-1], film(given.frames, given.height, given.width, number), fps=2, preset="ultrafast")
        own = torch.cuda.is_available()
        pruned = ("--video-pruning-rate", str(given.rate))
        ways: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
            "no pruning": ({"STGRAPH_VLLM": ""}, ()),
            "EVS of vLLM" if own else "selector=evs": ({"STGRAPH_VLLM": "" if own else "selector=evs"}, pruned),
            given.words: ({"STGRAPH_VLLM": given.words}, pruned),
        }
        heads = [f"{k} in flight: {what}" for k in given.in_flight for what in ("requests/s", "first token")]
        print("| | " + " | ".join(heads) + " |\n" + "|---" * (len(heads) + 1) + "|", flush=True)
        for name, (environment, arguments) in ways.items():
            environment = {key: value for key, value in environment.items() if value}
            cells = []
            with served(given.model, place / "log", environment, *arguments, *more) as address:
                rest = iter(clips)
                load(address, [next(rest) for _ in range(WARM_UP)], 1, given.tokens)
                for k in given.in_flight:
                    rate, first = load(address, [next(rest) for _ in range(given.requests)], k, given.tokens)
                    cells += [f"{rate:.2f}", f"{1000 * first:.0f} ms"]
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
        grid, dim = grid_of(given.model, given.frames, given.height, given.width)
        for words in dict.fromkeys(["selector=evs", given.words]):
            spent = selecting(words, grid, dim, given.rate)
            print(f"{words} alone: {spent:.1f} ms on the CPU for {grid[0]} × {grid[1]} × {grid[2]} tokens of {dim}")


if __name__ == "__main__":
    main()
