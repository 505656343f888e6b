"""What vLLM's own pruning does with some requests: ``python -m tests.integrations.serving.stock FAULT FAMILY FOLDER``.

A process of its own, without the plugin. It prints one line of JSON: the error of the engine, or how far the
log-probabilities of the same request differ when it is asked again from the prefix cache and in chunks.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from . import tiny
from .test_vllm import CLIP, PORTRAIT, Engines, request


class Stock(Engines):
    """Engines without the plugin."""

    def choose(self, words: str = "") -> None:
        del words


def note_that_it_prunes() -> None:
    """Mend the first fault alone: on the CPU all others lie behind it."""
    from vllm.v1.worker.cpu_model_runner import CPUModelRunner

    original = CPUModelRunner.load_model

    def load_model(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.is_multimodal_pruning_enabled = True

    CPUModelRunner.load_model = load_model


def error_of(engines: Stock, family: str, item: dict[str, Any]) -> dict[str, str]:
    try:
        engines.ask(engines.make(family), item)
    except Exception as error:
        told: list[str] = []
        now: BaseException | None = error
        while now is not None:
            told.append(str(now))
            now = now.__cause__ or now.__context__
        return {"error": " / ".join(told)}
    return {}


def differences(engines: Stock, family: str) -> dict[str, float]:
    item = request(tiny.film(16, 64, 64, seed=2))
    # With fewer tokens before the video than a timestamp has, the second fault ends the engine.
    item["prompt"] = "<|im_start|>system\nAnswer in a few words, whatever is asked.<|im_end|>\n" + item["prompt"]
    engine = engines.make(family)
    first, cached = (engines.ask(engine, item)[0] for _ in range(2))
    small = engines.make(family, max_num_batched_tokens=64, enable_prefix_caching=False)
    (chunked,) = engines.ask(small, item)
    return {
        name: float(np.abs(np.subtract(first.logprobs, other.logprobs)).max())
        for name, other in (("cached", cached), ("chunked", chunked))
    }


def main(fault: str, family: str, folder: str) -> None:
    os.environ.pop("STGRAPH_VLLM", None)
    with contextlib.redirect_stdout(sys.stderr):
        engines = Stock(Path(folder))
        if fault != "runner":
            note_that_it_prunes()
        if fault == "chunks":
            found: dict[str, Any] = differences(engines, family)
        else:
            media = {"runner": (CLIP,), "two videos": (CLIP, PORTRAIT), "image after": (CLIP, tiny.film(2, 48, 32)[0])}
            found = error_of(engines, family, request(*media[fault]))
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
