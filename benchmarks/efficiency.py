"""What a video LLM takes with all tokens and with fewer: time of each stage, memory and FLOPs.

Run with ``python -m benchmarks.efficiency``: a small model of the shape of LLaVA-Video on the CPU. On a GPU,
``--model llava-video-7b`` and ``--model nvila-8b`` have the dimensions of the published ones. Weights are random, made
on the device: times do not depend on them, answers would. ``--flops`` prints what follows from the dimensions alone.
``--session 5`` compares a session of five questions about one video with five single questions.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from stgraph import STSimDiff, VideoQA
from stgraph.app.ask import STAGES
from stgraph.app.compare import markdown
from stgraph.budget import ceil_share
from stgraph.models.flops import MODELS, Decoder, VideoLLM, VisionTower
from stgraph.models.prompt import Prompt
from stgraph.video import Video

WARM_UP = 3
NEW_TOKENS = 9
QUESTION = 40
"""Tokens of text in the prompt."""
EARLY_LAYER = 2
"""Where ``trim="inside"`` drops tokens."""

QWEN2_7B = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "max_position_embeddings": 65536,
    "tie_word_embeddings": False,
}
SO400M = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 26,
    "num_attention_heads": 16,
    "patch_size": 14,
    "vision_use_head": False,
}
SMALL_TEXT = QWEN2_7B | {
    "hidden_size": 256,
    "intermediate_size": 1024,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 4096,
}
SMALL_TOWER = SO400M | {
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "image_size": 112,
}


def small() -> Any:
    """A model like LLaVA-Video with 8 × 8 patches and 4 × 5 tokens a frame."""
    from stgraph.models.llava_video import LlavaVideoConfig, LlavaVideoForConditionalGeneration

    return LlavaVideoForConditionalGeneration(LlavaVideoConfig(vision_config=SMALL_TOWER, text_config=SMALL_TEXT))


def llava_video() -> Any:
    """LLaVA-Video-7B: 27 × 27 patches and 14 × 15 tokens a frame."""
    from stgraph.models.llava_video import LlavaVideoConfig, LlavaVideoForConditionalGeneration

    tower = SO400M | {"image_size": 384}
    return LlavaVideoForConditionalGeneration(LlavaVideoConfig(vision_config=tower, text_config=QWEN2_7B))


def nvila() -> Any:
    """NVILA-8B: 32 × 32 patches and 16 × 16 + 1 tokens a frame."""
    from stgraph.models.nvila import NvilaConfig, NvilaForConditionalGeneration

    tower = SO400M | {"image_size": 448}
    settings = {"mm_projector_type": "mlp_downsample", "scales": 3, "frame_end_token_id": 198}
    return NvilaForConditionalGeneration(NvilaConfig(vision_config=tower, text_config=QWEN2_7B, **settings))


BUILDERS: dict[str, Callable[[], Any]] = {"small": small, "llava-video-7b": llava_video, "nvila-8b": nvila}


def build(name: str, device: torch.device) -> Any:
    """A model with random weights, made on ``device`` in the type that it runs in there."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16 if device.type == "cuda" else torch.float32)
    try:
        with device:
            torch.manual_seed(0)
            model = BUILDERS[name]().eval()
    finally:
        torch.set_default_dtype(default)
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model


def film(frames: int, side: int) -> Tensor:
    """(T, 3, side, side): a picture with a part that changes in every frame, and another picture after 40 of them."""
    g = torch.Generator().manual_seed(0)
    shots = torch.randn(-(-frames // 40), 3, side, side, generator=g).repeat_interleave(40, 0)[:frames]
    shots[:, :, : side // 3] += torch.randn(frames, 3, side // 3, side, generator=g)
    return shots


class FilmPrompt(Prompt):
    """The same film and question at every call; the words of the answer are no matter."""

    def __init__(self, model: Any, frames: int) -> None:
        config = model.config
        tokens = config.token_grid(frames)
        columns = {"row": tokens.width + 1, "frame": tokens.width}[config.separator_layout]
        placeholders = tokens.frames * (tokens.height * columns + (config.separator_layout == "frame"))
        ids = torch.full((QUESTION + placeholders,), config.video_token_id)
        ids[: QUESTION // 2] = ids[QUESTION // 2 + placeholders :] = 11
        self._inputs = {
            "input_ids": ids[None],
            "attention_mask": torch.ones(1, len(ids), dtype=torch.int64),
            "pixel_values_videos": film(frames, config.vision_config.image_size)[None],
        }

    def __call__(self, video: Video, question: str) -> dict[str, Any]:
        return self._inputs

    def words(self, ids: Tensor) -> str:
        return ""


class Peak:
    """The most memory that a block of code held beyond what was held before it; ``bytes`` is None where not known."""

    bytes: int | None = None

    @contextmanager
    def measured(self, device: torch.device) -> Iterator[None]:
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
            yield
            self.bytes = torch.cuda.max_memory_allocated(device) - before
            return
        known = False
        with suppress(OSError, AttributeError):  # Linux alone can forget its high-water mark
            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")
            known = True
        held = _status("VmRSS") if known else 0
        yield
        self.bytes = _status("VmHWM") - held if known else None


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


class Setting(NamedTuple):
    """One row of the table; ``trim`` is None without a selector."""

    frames: int
    retention: float
    trim: str | None


class Case:
    """One setting, measured once with every :meth:`run`."""

    def __init__(self, model: Any, setting: Setting) -> None:
        self.model, self.setting = model, setting
        selector = None if setting.trim is None else STSimDiff(retention=setting.retention)
        options = {} if setting.trim is None else {"trim": setting.trim}
        prompt = FilmPrompt(model, setting.frames)
        self._qa = VideoQA(model, prompt, selector, max_new_tokens=NEW_TOKENS, **options)
        nothing = torch.zeros(setting.frames, 3, 2, 2, dtype=torch.uint8)
        self._video = Video(nothing, torch.arange(setting.frames, dtype=torch.float64))
        self._seconds: dict[str, list[float]] = {}
        self._peak = Peak()

    def run(self, *, count: bool) -> None:
        """One answer; ``count`` is False to warm up."""
        with self._peak.measured(self.model.device):
            self._answer = self._qa(self._video, "What happens?")
        taken = self._answer.report.seconds
        stages = {stage: taken[stage] for stage in ("encoder", "selection", "prefill")}
        stages["decode"] = taken["decode"] / (NEW_TOKENS - 1)
        for stage, value in stages.items():
            self._seconds.setdefault(stage, []).extend([value] if count else [])

    def row(self) -> dict[str, Any]:
        """Seconds of each stage, and what the decoder was given."""
        report, chosen = self._answer.report, self._answer.selection
        entering = report.kept
        if self.setting.trim == "inside":
            entering = int(((chosen.candidate > 0) | (chosen.community < 0)).sum())
        decoder = Decoder.of(self.model.config.get_text_config())
        layers = [QUESTION + (entering if i < EARLY_LAYER else report.kept) for i in range(decoder.layers)]
        return {
            **self.setting._asdict(),
            "tokens": report.tokens,
            "entering": entering,
            "kept": report.kept,
            "seconds": {stage: quartiles(values) for stage, values in self._seconds.items()},
            "prefill_flops": decoder.prefill(layers),
            "cache_bytes": decoder.cache_bytes(layers, value=self.model.dtype.itemsize),
            "peak_bytes": self._peak.bytes,
        }


def measure(model: Any, settings: list[Setting], repeats: int) -> list[dict[str, Any]]:
    """The rows of ``settings``, taken in turns: what else the machine does falls on all alike."""
    cases = [Case(model, setting) for setting in settings]
    for run in range(WARM_UP + repeats):
        for case in cases:
            case.run(count=run >= WARM_UP)
    return [case.row() for case in cases]


def quartiles(values: list[float]) -> dict[str, float]:
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "low": low, "high": high}


def percent(share: float) -> str:
    return f"{100 * share:.0f} %".replace("-", "−")


def table(rows: list[dict[str, Any]]) -> str:
    """Medians, with quartiles where it matters most; the last columns against all tokens of the same frames."""
    whole = {row["frames"]: row for row in rows if row["trim"] is None}

    def milliseconds(row: dict[str, Any], stage: str) -> str:
        return f"{1000 * row['seconds'][stage]['median']:.1f}"

    def spread(row: dict[str, Any], stage: str) -> str:
        found = {key: 1000 * value for key, value in row["seconds"][stage].items()}
        return f"{found['median']:.1f} ({found['low']:.1f}–{found['high']:.1f})"

    def change(row: dict[str, Any], *stages: str) -> str:
        now, before = (
            sum(each["seconds"][stage]["median"] for stage in stages) for each in (row, whole[row["frames"]])
        )
        return percent(now / before - 1)

    lines = []
    for row in rows:
        lines.append(
            (
                row["frames"],
                percent(row["retention"]),
                row["trim"] or "—",
                f"{row['entering']:,}" if row["entering"] == row["kept"] else f"{row['entering']:,} → {row['kept']:,}",
                milliseconds(row, "encoder"),
                milliseconds(row, "selection"),
                spread(row, "prefill"),
                milliseconds(row, "decode"),
                "—" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**20:,.0f}",
                change(row, "selection", "prefill"),
                change(row, "encoder", "selection", "prefill"),
                percent(row["prefill_flops"] / whole[row["frames"]]["prefill_flops"] - 1),
            )
        )
    titles = ["frames", "retention", "trim", "tokens", "encoder", "selection", "prefill (quartiles)", "decode"]
    return markdown([*titles, "peak, MiB", "selection + prefill", "first token", "prefill FLOPs"], lines)


def flops_table(frames: int, retention: float) -> str:
    """What follows from the dimensions of the published models."""
    rows = []
    for name, model in MODELS.items():
        n = model.video_tokens(frames)
        kept = ceil_share(retention, n)
        schedules = (model.schedule(n, QUESTION), model.schedule(kept, QUESTION))
        inside = model.schedule(kept, QUESTION, entering=n, layer=EARLY_LAYER)
        rows.append((name, *_flops_row(model, frames, (n, kept), schedules, inside)))
    return markdown(
        ["model", "tokens", "encoder", "prefill", "change", "as FastV", "dense", "next token", "cache, GiB"],
        rows,
    )


def _flops_row(
    model: VideoLLM, frames: int, tokens: tuple[int, int], schedules: tuple[list[int], list[int]], inside: list[int]
) -> tuple[str, ...]:
    decoder = model.decoder
    prefill, pruned = (decoder.prefill(schedule) for schedule in schedules)
    dense = [decoder.prefill(schedule, causal=False) for schedule in schedules]
    decode = [decoder.decode(schedule) for schedule in schedules]
    cache = [decoder.cache_bytes(schedule) for schedule in schedules]
    return (
        f"{tokens[0]:,} → {tokens[1]:,}",
        f"{model.encoder(frames) / 1e12:.1f} T",
        f"{prefill / 1e12:.1f} → {pruned / 1e12:.1f} T",
        percent(pruned / prefill - 1),
        percent(decoder.prefill(inside) / prefill - 1),
        percent(dense[1] / dense[0] - 1),
        f"{decode[0] / 1e9:.1f} → {decode[1] / 1e9:.1f} G",
        f"{cache[0] / 2**30:.2f} → {cache[1] / 2**30:.2f}",
    )


# -- a session --------------------------------------------------------------------------------------------------------


def dimensions(model: Any) -> VideoLLM:
    """Of a model like LLaVA-Video, for its FLOPs."""
    config, vision = model.config, model.config.vision_config
    width, text = vision.hidden_size, config.text_config.hidden_size
    tower = VisionTower(vision.num_hidden_layers, width, vision.intermediate_size, 3 * vision.patch_size**2)
    patches, grid = config.patches**2, config.token_grid(1)
    tokens = grid.height * (grid.width + 1)
    decoder = Decoder.of(config.get_text_config())
    return VideoLLM(tower, patches, (width, text, text), patches, tokens, decoder)


def session_flops(model: VideoLLM, frames: int, retention: float, questions: int) -> dict[str, dict[str, int]]:
    """FLOPs of so many single questions and of a session, by stage; each prompt has its text half before the video."""
    kept, before = ceil_share(retention, model.video_tokens(frames)), QUESTION // 2
    asked = QUESTION - before
    layers = model.decoder.layers
    alone = model.decoder.prefill([before + kept + asked] * layers)
    begun = model.decoder.prefill([before + kept] * layers)
    further = model.decoder.extend(asked, [before + kept] * layers)
    return {
        "single": {"encoder": questions * model.encoder(frames), "prefill": questions * alone},
        "session": {"encoder": model.encoder(frames), "prefill": begun + questions * further},
    }


def session(model: Any, frames: int, retention: float, questions: int, repeats: int) -> list[dict[str, Any]]:
    """So many single questions and a session of them, measured in turns: seconds of all of them, by stage."""
    qa = VideoQA(model, FilmPrompt(model, frames), STSimDiff(retention=retention), max_new_tokens=NEW_TOKENS)
    nothing = Video(torch.zeros(frames, 3, 2, 2, dtype=torch.uint8), torch.arange(frames, dtype=torch.float64))
    seconds: dict[str, dict[str, list[float]]] = {"single": {}, "session": {}}
    words: dict[str, list[int]] = {}
    for run in range(WARM_UP + repeats):
        for way in seconds:
            if way == "single":
                answers = [qa(nothing, "What happens?") for _ in range(questions)]
                once = dict.fromkeys(STAGES, 0.0)
            else:
                with qa.video(nothing) as asked:
                    answers = [asked.ask("What happens?") for _ in range(questions)]
                once = asked.seconds
            spent = {stage: once[stage] + sum(a.report.seconds[stage] for a in answers) for stage in STAGES}
            words[way] = [answer.report.kept for answer in answers]
            for stage, value in spent.items():
                seconds[way].setdefault(stage, []).extend([value] if run >= WARM_UP else [])
    assert words["single"] == words["session"], "the same tokens are kept"
    flops = session_flops(dimensions(model), frames, retention, questions)
    return [
        {
            "way": way,
            "questions": questions,
            "frames": frames,
            "retention": retention,
            "kept": words[way][0],
            "seconds": {stage: quartiles(values) for stage, values in taken.items()},
            "flops": flops[way],
        }
        for way, taken in seconds.items()
    ]


def session_table(rows: list[dict[str, Any]]) -> str:
    """Medians of all questions together in milliseconds, and FLOPs."""
    stages = ("prepare", "encoder", "selection", "prefill", "decode")
    lines = []
    for row in rows:
        total = sum(row["seconds"][stage]["median"] for stage in stages)
        base = sum(rows[0]["seconds"][stage]["median"] for stage in stages)
        flops, whole = sum(row["flops"].values()), sum(rows[0]["flops"].values())
        lines.append(
            (
                {"single": f"{row['questions']} single questions", "session": "a session of them"}[row["way"]],
                *(f"{1000 * row['seconds'][stage]['median']:.1f}" for stage in stages),
                f"{1000 * total:.1f}",
                percent(total / base - 1),
                *(f"{row['flops'][stage] / 1e9:.1f} G" for stage in ("encoder", "prefill")),
                percent(flops / whole - 1),
            )
        )
    titles = [*stages, "together", "change", "encoder FLOPs", "prefill FLOPs", "change"]
    return markdown(["asked as", *titles], lines)


def session_flops_table(frames: int, retention: float, questions: int) -> str:
    """The same FLOPs at the dimensions of published models."""
    lines = []
    for name, model in MODELS.items():
        flops = session_flops(model, frames, retention, questions)
        single, one = (sum(flops[way].values()) for way in ("single", "session"))
        stages = [
            f"{flops['single'][s] / 1e12:.1f} → {flops['session'][s] / 1e12:.1f} T" for s in ("encoder", "prefill")
        ]
        lines.append((name, *stages, f"{single / 1e12:.1f} → {one / 1e12:.1f} T", percent(one / single - 1)))
    return markdown(["model", "encoder", "prefill", "together", "change"], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flops", action="store_true", help="only what follows from dimensions")
    parser.add_argument("--model", choices=list(BUILDERS), default="small")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--frames", type=int, nargs="+", default=[16, 32, 64, 128])
    parser.add_argument("--retention", type=float, nargs="+", default=[0.5, 0.3, 0.1], help="besides 1")
    parser.add_argument("--trim", nargs="+", choices=["before", "inside"], default=["before", "inside"])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--session", type=int, metavar="QUESTIONS", help="a session of so many beside single questions")
    parser.add_argument("--json", type=Path, help="write the numbers there too")
    arguments = parser.parse_args()
    if arguments.flops:
        for retention in arguments.retention:
            print(f"{max(arguments.frames)} frames at {percent(retention)}, {QUESTION} tokens of text\n")
            print(flops_table(max(arguments.frames), retention), end="\n\n")
            if arguments.session:
                print(session_flops_table(max(arguments.frames), retention, arguments.session), end="\n\n")
        return
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("This needs a CUDA device, and there is none; leave --device out for the CPU.")
    model = build(arguments.model, device)
    rows: list[dict[str, Any]] = []
    for frames in arguments.frames if arguments.session else ():
        for retention in arguments.retention:
            found = session(model, frames, retention, arguments.session, arguments.repeats)
            print(f"{frames} frames at {percent(retention)}, {found[0]['kept']} tokens kept; milliseconds\n")
            print(session_table(found), end="\n\n")
            rows += found
    for frames in () if arguments.session else arguments.frames:
        pruned = itertools.product([frames], arguments.retention, arguments.trim)
        rows += measure(model, [Setting(frames, 1.0, None), *itertools.starmap(Setting, pruned)], arguments.repeats)
    machine = {
        "model": arguments.model,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "dtype": str(model.dtype).removeprefix("torch."),
        "repeats": arguments.repeats,
    }
    print(", ".join(f"{key} {value}" for key, value in machine.items()), "milliseconds", sep="; ", end="\n\n")
    if not arguments.session:
        print(table(rows))
    if arguments.json:
        arguments.json.write_text(json.dumps({**machine, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
