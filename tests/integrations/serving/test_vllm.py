"""vLLM serves the selector: its counts, its tokens, and the answers of transformers with the selector attached.

Runs in the environment of ``make test-vllm``, in one process. ``engines`` holds one engine for each setting.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from benchmarks.serving import body, first_token, post, served
from stgraph import StgraphError, VideoTokens
from stgraph.integrations.serving.vllm_faults import TRIALS, faults
from stgraph.selectors import SELECTORS, Selection

from . import tiny

pytestmark = pytest.mark.vllm

FAMILIES = ("qwen2_5_vl", "qwen3_vl")
DROP_ONLY = ("simdiff", "evs", "vidcom2", "divprune", "uniform", "random", "importance", "sim", "diff")
RATE = 0.7
CLIP = tiny.film(8, 64, 64)
PORTRAIT = tiny.film(8, 64, 32, seed=1)
CLIPS = {"landscape": CLIP, "portrait": PORTRAIT}
ROOT = Path(__file__).parents[3]
SERVED = ("--dtype", "float32", "--enforce-eager", "--max-model-len", "4096", "--video-pruning-rate", "0.7")


class Engines:
    """Engines by family and setting, each made once, all with the plugin on."""

    def __init__(self, folder) -> None:
        self.folder = folder
        self.dump = folder / "dump"
        self.make = functools.cache(self._make)

    @functools.cached_property
    def folders(self) -> dict[str, Any]:
        return {family: tiny.folder(self.folder / family, family) for family in FAMILIES}

    def _make(self, family: str, rate: float = RATE, **settings: Any) -> Any:
        from vllm import LLM

        self.choose()
        return LLM(
            str(self.folders[family]),
            video_pruning_rate=rate,
            enforce_eager=True,
            max_model_len=4096,
            max_num_seqs=4,
            seed=0,
            limit_mm_per_prompt={"video": 2, "image": 2},
            **{"dtype": "float32", "max_num_batched_tokens": 4096, **settings},
        )

    def choose(self, words: str = "selector=simdiff") -> Any:
        """Put another selector in the place of the one that serves; engines ask for it anew at each video."""
        from stgraph.integrations.serving import vllm, vllm_hooks

        rate = vllm_hooks.ACTIVE.rate if vllm_hooks.ACTIVE else None
        os.environ |= {"STGRAPH_VLLM": words, "STGRAPH_VLLM_STRICT": "1", "STGRAPH_VLLM_DUMP": str(self.dump)}
        vllm.register()
        vllm_hooks.active().rate = rate
        return vllm_hooks.active()

    def ask(self, engine: Any, *requests: Any, tokens: int = 4) -> list[Any]:
        """Answers: length of the prompt, its video tokens, those taken from the cache, tokens and log-probabilities."""
        from vllm import SamplingParams

        sampling = SamplingParams(temperature=0, max_tokens=tokens, logprobs=1, ignore_eos=True)
        return [
            SimpleNamespace(
                length=len(out.prompt_token_ids),
                videos=out.prompt_token_ids.count(tiny.VIDEO),
                cached=out.num_cached_tokens,
                tokens=list(out.outputs[0].token_ids),
                logprobs=[
                    step[token].logprob
                    for step, token in zip(out.outputs[0].logprobs, out.outputs[0].token_ids, strict=True)
                ],
            )
            for out in engine.generate(list(requests), sampling, use_tqdm=False)
        ]


MODELS = {"qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration", "qwen3_vl": "Qwen3VLForConditionalGeneration"}


@pytest.fixture(scope="session")
def stock():
    """vLLM's own classes, as they were before the plugin."""
    pytest.importorskip("vllm")
    from stgraph.integrations.serving.vllm_models import METHODS

    classes = {}
    for family, name in MODELS.items():
        cls = getattr(importlib.import_module(f"vllm.model_executor.models.{family}"), name)
        names = [*METHODS, "_get_expanded_positions"]
        own = {each: cls.__dict__[each] for each in names if each in cls.__dict__}
        classes[family] = type(f"Stock{name}", (cls,), {**own, "__module__": cls.__module__})
    return classes


@pytest.fixture(scope="session")
def engines(tmp_path_factory, stock):
    return Engines(tmp_path_factory.mktemp("served"))


def request(*media: np.ndarray, text: str = "What happens?", fps: float = 8.0) -> dict[str, Any]:
    """A prompt: videos are of 4 dimensions, images of 3."""
    marks = "".join(tiny.CLIP if item.ndim == 4 else tiny.PICTURE for item in media)
    data: dict[str, Any] = {}
    for item in media:
        if item.ndim == 4:
            data.setdefault("video", []).append(tiny.with_metadata(item, fps))
        else:
            data.setdefault("image", []).append(item)
    return {"prompt": f"<|im_start|>user\n{marks}{text}<|im_end|>\n<|im_start|>assistant\n", "multi_modal_data": data}


def same(first: Any, second: Any) -> None:
    assert first.tokens == second.tokens
    assert np.abs(np.subtract(first.logprobs, second.logprobs)).max() < 1e-4


def both(test):
    return pytest.mark.parametrize("family", FAMILIES)(test)


@both
@pytest.mark.parametrize("rate", [0.3, 0.7, 0.9])
def test_counts_are_exact(engines, family, rate):
    engine = engines.make(family, rate)
    for clip in (CLIP, PORTRAIT):
        (answer,) = engines.ask(engine, request(clip), tokens=1)
        count = len(clip) // 2 * clip.shape[1] // 8 * clip.shape[2] // 8
        share = round(1000 * (1 - rate))
        assert answer.videos == -(-count * share // 1000)


@both
@pytest.mark.parametrize("name", DROP_ONLY)
def test_the_tokens_are_those_of_the_selector(engines, family, name):
    """Run on what the server saw, each selector chooses what the server kept."""
    engine = engines.make(family)
    serving = engines.choose(f"selector={name}").settings.selector
    before = set(engines.dump.iterdir()) if engines.dump.exists() else set()
    clip = tiny.film(8, 64, 64, seed=10 + DROP_ONLY.index(name))
    engines.ask(engine, request(clip), tokens=1)
    (folder,) = set(engines.dump.iterdir()) - before
    served = Selection.load(folder)
    features = load_file(folder / "features.safetensors")["features"]
    assert features.shape[-1] == 64, "the model's own features, without those of earlier layers"
    config = SELECTORS.config(serving.selector) | {"retention": 0.3}
    alone = SELECTORS.build(config)(VideoTokens.from_grid(features.view(4, 8, 8, 64)))
    assert served.indices.tolist() == alone.indices.tolist()
    engines.choose()


@pytest.fixture(scope="session")
def attached(engines, tmp_path_factory):
    """The answers of transformers with the selector attached, from the project's own environment."""
    import transformers
    from safetensors.torch import save_file

    python = os.environ.get("STGRAPH_PYTHON", "")
    assert python, "STGRAPH_PYTHON must name the Python of .venv; make test-vllm does"
    place = tmp_path_factory.mktemp("attached")
    answers = {}
    for family, folder in engines.folders.items():
        processor = transformers.AutoProcessor.from_pretrained(folder)
        for name, clip in CLIPS.items():
            item = request(clip)
            ((frames, metadata),) = item["multi_modal_data"]["video"]
            metadata = {key: value for key, value in metadata.items() if key != "do_sample_frames"}
            inputs = processor(
                text=[item["prompt"]],
                videos=[torch.from_numpy(frames).permute(0, 3, 1, 2)],
                video_metadata=[metadata],
                do_sample_frames=False,
                return_tensors="pt",
            )
            file = place / f"{family}-{name}.safetensors"
            save_file({key: torch.as_tensor(value).contiguous() for key, value in inputs.items()}, file)
            answers[family, name] = file
        files = [str(file) for (of, _), file in answers.items() if of == family]
        program = [python, "-m", "tests.integrations.serving.attached", str(folder), *files]
        subprocess.run(program, check=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    return {key: SimpleNamespace(**json.loads(file.with_suffix(".json").read_text())) for key, file in answers.items()}


@both
@pytest.mark.parametrize("name", ["landscape", "portrait"])
def test_a_served_model_answers_as_an_attached_one(engines, attached, family, name):
    (served,) = engines.ask(engines.make(family), request(CLIPS[name]))
    same(served, attached[family, name])


@both
def test_cached_and_chunked_requests_answer_as_whole_ones(engines, family):
    clip = tiny.film(16, 64, 64, seed=2)  # longer than a block of the cache
    item, other = request(clip), request(clip, text="What else?")
    engine = engines.make(family)
    first, again, another = (engines.ask(engine, each)[0] for each in (item, item, other))
    assert again.cached > 0
    same(first, again)
    small = engines.make(family, max_num_batched_tokens=64, enable_prefix_caching=False)
    same(first, engines.ask(small, item)[0])
    same(another, engines.ask(small, other)[0])


@both
def test_several_videos_and_images_and_a_batch(engines, family):
    """Alone or in a batch, whole or in chunks."""
    picture = tiny.film(2, 48, 32, seed=3)[0]
    items = [
        request(CLIP, PORTRAIT),
        request(CLIP, picture),
        request(picture, CLIP),
        request(picture),
        request(text="No video at all."),
    ]
    engine = engines.make(family)
    alone = [engines.ask(engine, item)[0] for item in items]
    batch = engines.ask(engine, *items)
    small = engines.make(family, max_num_batched_tokens=64, enable_prefix_caching=False)
    for first, together, item in zip(alone, batch, items, strict=True):
        same(first, together)
        same(first, engines.ask(small, item)[0])


@both
def test_a_video_that_is_not_finite_is_answered(engines, family, caplog, monkeypatch):
    """Evenly spaced tokens and a logged error; strict, it is refused."""
    from stgraph.integrations.serving import vllm_hooks

    engine = engines.make(family)
    serving = engines.choose()
    features = torch.full((256, 64), float("nan"))
    with pytest.raises(StgraphError, match="NaN"):
        vllm_hooks.retention_mask(features, (4, 16, 16), 2, RATE)
    monkeypatch.setenv("STGRAPH_VLLM_STRICT", "0")
    from stgraph.integrations.serving import vllm

    vllm.register()
    vllm_hooks.active().rate = serving.rate
    with broken_features(engine):
        (answer,) = engines.ask(engine, request(tiny.film(8, 64, 64, seed=4)), tokens=1)
    assert answer.videos == 77
    assert "keeps 77 evenly spaced ones" in caplog.text
    same(*engines.ask(engine, request(CLIP), request(CLIP)))
    engines.choose()


@contextlib.contextmanager
def broken_features(engine: Any):
    """The engine's vision tower gives NaN."""
    runner = engine.llm_engine.model_executor.driver_worker.worker.model_runner
    visual = runner.get_model().visual
    handle = visual.register_forward_hook(lambda module, args, out: out * float("nan"))
    try:
        yield
    finally:
        handle.remove()


# -- faults of vLLM's own pruning -------------------------------------------------------------------------------------

SHOWN = {
    "qwen2_5_vl": [
        "two videos",
        "an image after a video",
        "200 frames in bfloat16",
        "half a second for a step",
        "a video taller than wide",
    ],
    "qwen3_vl": list(TRIALS),
}
"""Trials that show a fault of vLLM 0.32 in a family."""


@pytest.mark.parametrize(("family", "name"), [(family, name) for family in FAMILIES for name in TRIALS])
def test_faults_of_positions_are_there_without_the_plugin_and_gone_with_it(engines, stock, family, name):
    engines.choose()
    trial = {name: TRIALS[name]}
    assert bool(faults(stock[family], trial)) == (name in SHOWN[family])
    module = importlib.import_module(f"vllm.model_executor.models.{family}")
    assert not faults(getattr(module, MODELS[family]), trial)


def test_the_runner_for_cpus_notes_that_the_model_prunes(engines):
    from vllm.v1.worker.cpu_model_runner import CPUModelRunner

    runner = engines.make("qwen2_5_vl").llm_engine.model_executor.driver_worker.worker.model_runner
    assert isinstance(runner, CPUModelRunner)
    assert runner.is_multimodal_pruning_enabled
    source = inspect.getsource(inspect.unwrap(CPUModelRunner.load_model))
    assert "is_multimodal_pruning_enabled" not in source, "vLLM is right by now: take the mend out"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "family", "message"),
    [
        ("runner", "qwen2_5_vl", "cannot be broadcast"),
        ("two videos", "qwen2_5_vl", "must be non-negative"),
        ("image after", "qwen2_5_vl", "must be non-negative"),
        ("chunks", "qwen3_vl", None),
    ],
)
def test_whole_engines_without_the_plugin_have_the_faults(fault, family, message, tmp_path):
    """With it, the same requests are answered alike: see the tests of caches, chunks and several videos above."""
    program = [sys.executable, "-m", "tests.integrations.serving.stock", fault, family, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    done = subprocess.run(program, check=True, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    if message is None:
        assert found["cached"] > 1e-3
        assert found["chunked"] > 1e-3
    else:
        assert message in found["error"]


def test_positions_that_stay_wrong_stop_the_server(engines, stock):
    from stgraph.integrations.serving.vllm_hooks import mend

    engines.choose()
    with pytest.raises(StgraphError, match=r"positions of .* in this vLLM are not right"):
        mend(stock["qwen3_vl"], lambda cls: None)


# -- start ------------------------------------------------------------------------------------------------------------


def test_names_that_were_imported_before_are_bound_anew(engines):
    from stgraph.integrations.serving import vllm_hooks

    engines.choose()
    for family in FAMILIES:
        module = importlib.import_module(f"vllm.model_executor.models.{family}")
        assert module.compute_retention_mask is vllm_hooks.retention_mask
        assert module.compute_retained_tokens_count is vllm_hooks.retained_tokens_count


def test_cache_keys_depend_on_selector_and_rate(engines):
    from vllm.multimodal.processing.inputs import ProcessorInputs

    items = {"video": SimpleNamespace(get_all_items_for_hash=lambda: [b"clip"])}
    inputs = SimpleNamespace(
        mm_data_items=items,
        mm_uuid_items={"video": ["named by the client"]},
        media_io_kwargs={},
        hf_processor_mm_kwargs={},
    )

    def key() -> str:
        return ProcessorInputs.get_mm_hashes(inputs, "model", "sha256")["video"][0]

    keys = set()
    for words in ("selector=simdiff", "selector=evs"):
        serving = engines.choose(words)
        for rate in (0.5, 0.7):
            serving.rate = rate
            assert key() == key()
            keys.add(key())
    assert len(keys) == 4
    engines.choose()


@pytest.mark.parametrize(
    ("architecture", "multimodal", "sentence"),
    [
        (
            "Qwen3VLForConditionalGeneration",
            {"video_pruning_rate": 0.7, "video_pruning_method": "vidcom2"},
            "--video-pruning-method vidcom2 and STGRAPH_VLLM both choose tokens",
        ),
        (
            "Qwen3_5ForConditionalGeneration",
            {"video_pruning_rate": 0.7, "video_pruning_method": "evs"},
            "STGRAPH_VLLM does not serve Qwen3_5ForConditionalGeneration; it serves Qwen2_5_VL",
        ),
    ],
)
def test_models_and_methods_that_do_not_go_with_it(engines, architecture, multimodal, sentence):
    from stgraph.integrations.serving.vllm_hooks import check_model

    engines.choose()
    with pytest.raises(StgraphError, match=sentence):
        check_model(SimpleNamespace(architecture=architecture, multimodal_config=SimpleNamespace(**multimodal)))


def test_vllm_itself_refuses_another_method_beside_it(engines):
    from vllm import LLM

    engines.choose()
    with pytest.raises(Exception, match="vidcom2 and STGRAPH_VLLM both choose tokens"):
        LLM(str(engines.folders["qwen3_vl"]), video_pruning_rate=0.7, video_pruning_method="vidcom2")


def test_without_a_rate_it_says_that_all_tokens_stay(engines, caplog):
    from stgraph.integrations.serving.vllm_hooks import check_model

    engines.choose()
    check_model(SimpleNamespace(architecture="Any", multimodal_config=SimpleNamespace(video_pruning_rate=None)))
    assert "all video tokens stay" in caplog.text


def test_another_layout_of_vllm_is_refused(engines, monkeypatch):
    from stgraph.integrations.serving import vllm_hooks

    monkeypatch.setattr(vllm_hooks, "PRUNING", ("vllm.nowhere",))
    with pytest.raises(StgraphError, match=r"vLLM 0\.\d+.* keeps video pruning in none of vllm\.nowhere"):
        engines.choose()
    monkeypatch.undo()
    pruning = importlib.import_module("vllm.multimodal.video_prune.evs")
    monkeypatch.setattr(pruning, "compute_retention_mask", lambda video_embeds, q: None)
    with pytest.raises(StgraphError, match=r"compute_retention_mask of vLLM .* takes \(video_embeds, q\) where"):
        engines.choose()
    monkeypatch.undo()
    engines.choose()


def test_an_unknown_word_stops_vllm_in_one_sentence(engines, monkeypatch):
    from vllm.plugins import load_plugins_by_group

    monkeypatch.setenv("STGRAPH_VLLM", "selector=simdif")
    register = load_plugins_by_group("vllm.general_plugins")["stgraph"]
    with pytest.raises(StgraphError, match=r"STGRAPH_VLLM: .*did you mean 'simdiff'"):
        register()


@pytest.mark.slow
def test_vllm_serve_answers_over_http(engines, tmp_path):
    """A server of its own processes, a video in the request, twice."""
    from stgraph.video import write_video

    clip = tmp_path / "clip.mp4"
    write_video(clip, torch.from_numpy(tiny.film(16, 64, 64)).permute(0, 3, 1, 2), fps=8)
    settings = {"STGRAPH_VLLM": "selector=simdiff", "STGRAPH_VLLM_DUMP": str(tmp_path / "dump")}
    with served(engines.folders["qwen2_5_vl"], tmp_path / "log", settings, *SERVED) as address:
        answers = [post(address, body(clip, max_tokens=4)) for _ in range(2)]
        assert 0 < first_token(address, body(clip, max_tokens=4, ignore_eos=True)) < 600
        assert "stgraph chooses the video tokens" in (tmp_path / "log").read_text()
    assert answers[0]["choices"][0]["message"]["content"] == answers[1]["choices"][0]["message"]["content"]
    (folder,) = (tmp_path / "dump").iterdir()
    selection = Selection.load(folder)
    assert len(selection) == -(-len(selection.verdict) * 3 // 10)
    assert answers[0]["usage"]["prompt_tokens"] > len(selection)


@pytest.mark.slow
def test_vllm_serve_does_not_start_with_an_unknown_word(engines, tmp_path):
    with (
        pytest.raises(RuntimeError, match="did you mean 'simdiff'"),
        served(engines.folders["qwen2_5_vl"], tmp_path / "log", {"STGRAPH_VLLM": "selector=simdif"}, *SERVED),
    ):
        pass


# -- what needs a GPU, and has not run --------------------------------------------------------------------------------


@pytest.mark.gpu
@both
def test_on_a_gpu_cached_and_chunked_requests_answer_as_whole_ones(engines, family):
    """Model Runner V2, which hands back other tensors of positions. Written for it, never run."""
    item = request(tiny.film(8, 64, 64, seed=2))
    engine = engines.make(family, dtype="bfloat16")
    first, again = (engines.ask(engine, item)[0] for _ in range(2))
    small = engines.make(family, dtype="bfloat16", max_num_batched_tokens=64, enable_prefix_caching=False)
    assert first.tokens == again.tokens == engines.ask(small, item)[0].tokens
