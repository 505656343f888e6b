"""The model for lmms-eval, with as little of lmms-eval as it touches; the real one has a make target of its own."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from dataclasses import dataclass
from fractions import Fraction
from types import ModuleType, SimpleNamespace

import pytest
import torch
from PIL import Image

import stgraph.integrations.lmms_eval
from stgraph import StgraphError, VideoQA, read_video
from stgraph.app.config import resolve
from stgraph.app.stages import STAGES

from ..clips import write_clip
from ..models.folders import tiny_folder


@dataclass
class TokenCounts:
    input_tokens: int
    output_tokens: int


@dataclass
class GenerationResult:
    text: str
    token_counts: TokenCounts


@dataclass
class ModelManifest:
    model_id: str
    simple_class_path: str | None = None
    chat_class_path: str | None = None


class Base:
    """What a model inherits."""

    rank = 0

    def __init__(self):
        self.task_dict = {}
        self.cached = []
        self.cache_hook = SimpleNamespace(add_partial=lambda *words: self.cached.append(words))


@pytest.fixture
def logged(monkeypatch):
    """lmms-eval as it is used here; what is logged is collected."""
    calls = []
    parts = {
        "lmms_eval": {},
        "lmms_eval.api": {},
        "lmms_eval.api.instance": {"GenerationResult": GenerationResult, "TokenCounts": TokenCounts},
        "lmms_eval.api.model": {"lmms": Base},
        "lmms_eval.models": {},
        "lmms_eval.models.registry_v2": {"ModelManifest": ModelManifest},
        "lmms_eval.models.model_utils": {},
        "lmms_eval.models.model_utils.gen_metrics": {"log_metrics": lambda *words: calls.append(words)},
    }
    for name, content in parts.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    yield calls
    sys.modules.pop("stgraph.integrations.lmms_eval.model", None)


@pytest.fixture
def model_class(logged):
    """The class that the manifest names."""
    module, _, name = stgraph.integrations.lmms_eval.manifest().chat_class_path.rpartition(".")
    return getattr(importlib.import_module(module), name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tiny_folder(tmp_path_factory.mktemp("model"), "llava_onevision"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return str(write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", 30))


def request(messages, number=0, **options):
    """One of lmms-eval's; ``messages`` are what the task makes of the sample."""
    return SimpleNamespace(args=("context", lambda sample: messages, options, number, "task", "test"))


def asked(*parts):
    return [{"role": "user", "content": list(parts)}]


def about(clip, text="What?"):
    return asked({"type": "video", "url": clip}, {"type": "text", "text": text})


def answers(model, *requests):
    model.task_dict = {"task": {"test": range(len(requests))}}
    return model.generate_until(requests)


def test_lmms_eval_is_told_where_the_class_is(model_class):
    assert stgraph.integrations.lmms_eval.manifest().model_id == "stgraph"
    assert model_class.is_simple is False
    assert issubclass(model_class, Base)


def test_any_selector_answers_as_the_pipeline_does(model_class, logged, folder, clip):
    settings = {"selector": "evs", "retention": 0.25, "video.frames": 6}
    model = model_class(folder, trim="inside", **settings)
    config = resolve(["selector=evs", "retention=0.25"])
    qa = VideoQA.from_pretrained(folder, config.selector(), trim="inside", sampling={"frames": 6}, max_new_tokens=4)
    first, second = answers(
        model, request(about(clip), max_new_tokens=4), request(about(clip, "Why?"), 1, max_new_tokens=4)
    )
    expected = [qa(clip, question) for question in ("What?", "Why?")]
    assert [first.text, second.text] == [answer.text for answer in expected]
    report = expected[0].report
    assert report.kept == 7, "6 frames of 2 × 2 and a newline, a quarter of each, rounded up"
    assert first.token_counts == TokenCounts(report.prompt_kept, report.generated)
    assert model.cached[0] == ("generate_until", ("context", {"max_new_tokens": 4}), first.text)
    ((seconds, tokens, speed, means),) = logged
    assert tokens == sum(answer.report.generated for answer in expected)
    assert speed == pytest.approx(tokens / seconds)
    assert (means["num_requests"], means["video_tokens"], means["kept_tokens"]) == (2, 25, 7)


def test_settings_of_nested_methods(model_class, folder):
    model = model_class(folder, retention=0.5, **{"community": "leiden", "community.resolution": 0.5})
    assert model.qa.selector == resolve(["retention=0.5", "community=leiden", "community.resolution=0.5"]).selector()


def test_no_selector(model_class, folder, clip):
    model = model_class(folder, selector="none", **{"video.frames": 4})
    assert model.qa.selector is None
    (answer,) = answers(model, request(about(clip), max_new_tokens=3))
    assert (
        answer.text
        == VideoQA.from_pretrained(folder, None, sampling={"frames": 4}, max_new_tokens=3)(clip, "What?").text
    )


def test_text_ends_at_the_first_stop(model_class, folder, clip):
    model = model_class(folder, **{"video.frames": 4})
    (whole,) = answers(model, request(about(clip), max_new_tokens=8))
    stop = whole.text[len(whole.text) // 2]
    for until in (stop, ["never ever", stop]):
        (cut,) = answers(model, request(about(clip), max_new_tokens=8, until=until))
        assert cut.text == whole.text.partition(stop)[0]


def test_sampling_when_a_task_asks_for_it(model_class, folder, clip):
    model = model_class(folder, **{"video.frames": 4})
    torch.manual_seed(0)
    options = {"max_new_tokens": 6, "temperature": 5.0, "top_p": 1.0}
    texts = {answers(model, request(about(clip), **options))[0].text for _ in range(4)}
    assert len(texts) > 1
    assert len({answers(model, request(about(clip), max_new_tokens=6, temperature=0))[0].text for _ in range(2)}) == 1


def test_part_of_a_video(model_class, logged, folder, clip):
    model = model_class(folder, **{"video.stride": 1})
    part = asked({"type": "video", "url": clip, "start_time": 0.4, "end_time": 0.8}, {"type": "text", "text": "What?"})
    answers(model, request(part, max_new_tokens=2))
    assert logged[0][3]["video_tokens"] == 10 * 4 + 1, "25 frames a second"


def test_pictures_are_frames(model_class, logged, folder):
    model = model_class(folder)
    pictures = [{"type": "image", "url": Image.new("RGB", (20, 16), (level, 0, 0))} for level in (0, 90, 200)]
    answers(model, request(asked(*pictures, {"type": "text", "text": "What?"}), max_new_tokens=2))
    assert logged[0][3]["video_tokens"] == 3 * 4 + 1
    pictures[0]["url"] = Image.new("RGB", (10, 10))
    with pytest.raises(StgraphError, match="have different sizes"):
        answers(model, request(asked(*pictures)))


def test_what_is_refused(model_class, folder, clip):
    with pytest.raises(StgraphError, match="did you mean 'retention'"):
        model_class(folder, retentoin=0.3)
    with pytest.raises(StgraphError, match="because the video LLM encodes the video itself"):
        model_class(folder, encoder="descriptor")
    model = model_class(folder)
    with pytest.raises(StgraphError, match="comes with 2 and 0 pictures"):
        answers(model, request(asked({"type": "video", "url": clip}, {"type": "video", "url": clip})))
    with pytest.raises(StgraphError, match="comes with 0 and 0 pictures"):
        answers(model, request(asked({"type": "text", "text": "What?"})))
    with pytest.raises(StgraphError, match="whose output is generated"):
        model.loglikelihood([])
    with pytest.raises(StgraphError, match="several rounds"):
        model.generate_until_multi_round([])


def test_lmms_eval_is_imported_by_nobody_else():
    assert not [name for name in sys.modules if name.partition(".")[0] == "lmms_eval"]


# -- the protocol of the release, and other arguments -----------------------------------------------------------------


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return str(tiny_folder(tmp_path_factory.mktemp("published"), "llava_video"))


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory):
    """70 seconds of one frame each."""
    return str(write_clip(tmp_path_factory.mktemp("long") / "long.mp4", 70, tick=Fraction(1)))


def test_the_protocol_of_the_release(model_class, published, clip, long_clip):
    model = model_class(published, protocol="release", retention=0.3)
    qa = model.qa
    assert qa.sampling == {"fps": 1, "max_frames": 64}
    assert qa.max_new_tokens == 1024
    assert qa.prompt.time_instruction is False
    qa = dataclasses.replace(qa, max_new_tokens=5)
    model.qa = qa
    first, second = answers(model, request(about(clip)), request(about(long_clip), 1))
    assert model.qa(clip, "What?").report.frames == 2, "a frame each second of 1.2"
    assert model.qa(long_clip, "What?").report.frames == 64
    times = read_video(long_clip, fps=1, max_frames=64).timestamps
    assert torch.equal(times, read_video(long_clip, frames=64).timestamps), "uniform where there would be more"
    assert first.text == qa(clip, "What?").text
    assert second.text == qa(long_clip, "What?").text
    (whole,) = answers(model, request(about(clip), max_new_tokens=8, until=["e", "a", "i"]))
    assert whole.text == qa(clip, "What?", max_new_tokens=8).text, "the release heeds no stop words"
    ids = qa.prompt(read_video(clip, fps=1), "What?")["input_ids"][0]
    said = qa.prompt.tokenizer.decode(ids[ids != qa.model.config.video_token_id])
    assert said.endswith("<|im_start|>user\n\nWhat?<|im_end|>\n<|im_start|>assistant\n")


def test_arguments_count_beside_a_protocol(model_class, published, clip):
    model = model_class(published, protocol="release", max_frames=16, max_new_tokens=3, time_instruction="True")
    assert model.qa.sampling == {"fps": 1, "max_frames": 16}
    assert model.qa.max_new_tokens == 3
    assert model.qa.prompt.time_instruction is True
    model = model_class(published, protocol="release", **{"video.frames": 4})
    assert model.qa.sampling == {"frames": 4}
    model = model_class(published, max_frames=4, pool_mode="average", system="Be brief.", attn_implementation="eager")
    assert model.qa.sampling == {"max_frames": 4}
    assert model.qa.model.config.mm_spatial_pool_mode == "average"
    assert model.qa.model.config._attn_implementation == "eager"
    assert model.qa.system == "Be brief."
    assert model.qa(clip, "What?").report.frames == 4
    assert model_class(published).qa.max_new_tokens == 64


def test_what_a_family_does_not_have(model_class, folder):
    assert model_class(folder, protocol="release").qa.sampling == {"fps": 1, "max_frames": 64}
    with pytest.raises(StgraphError, match="time_instruction is a setting of LLaVA-Video"):
        model_class(folder, time_instruction=False)
    with pytest.raises(StgraphError, match="time_instruction must be True or False, got 'perhaps'"):
        model_class(folder, time_instruction="perhaps")
    with pytest.raises(StgraphError, match="protocol must be one of default, release"):
        model_class(folder, protocol="paper")


# -- devices and ranks ------------------------------------------------------------------------------------------------


def test_a_device_is_that_device(model_class, folder, monkeypatch):
    from stgraph.app.checks import device_named

    assert str(model_class(folder, device="cpu").device) == "cpu"
    with pytest.raises(StgraphError, match="device is cuda:1, but torch sees no CUDA devices"):
        model_class(folder, device="cuda:1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device_named("cuda:1", spread=False) == torch.device("cuda:1")
    with pytest.raises(StgraphError, match="device is cuda:2, but torch sees 2"):
        device_named("cuda:2", spread=False)


def test_each_rank_has_its_part(model_class, folder, clip, monkeypatch):
    made = []

    class Accelerator:
        def __init__(self, cpu):
            made.append(cpu)
            self.process_index, self.num_processes = 1, 2

    monkeypatch.setitem(sys.modules, "accelerate", SimpleNamespace(Accelerator=Accelerator))
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(StgraphError, match="each of 2 ranks has a device of its own"):
        model_class(folder, device="cuda:1")
    with pytest.raises(StgraphError, match="nor device_map=auto can be given"):
        model_class(folder, device_map="auto")
    model = model_class(folder, **{"video.frames": 4})
    assert (model._rank, model._world_size, made) == (1, 2, [True])
    assert str(model.device) == "cpu"
    assert answers(model, request(about(clip), max_new_tokens=2))[0].token_counts.output_tokens == 2


# -- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 2, "3"])
def test_batches_answer_as_single_questions(model_class, logged, folder, clip, tmp_path, batch_size):
    other = str(write_clip(tmp_path / "other.mp4", range(40, 60)))
    asked_of = [(clip, "What?"), (clip, "Why?"), (clip, "Who?"), (other, "What?"), (clip, "When?"), (other, "Who?")]
    model = model_class(folder, batch_size=batch_size, **{"video.frames": 6})
    calls = []
    tower = model.qa.engine.adapter.vision_attention(model.qa.model)
    handle = tower.register_forward_hook(lambda *_: calls.append(1))
    found = answers(model, *(request(about(*one), n, max_new_tokens=4) for n, one in enumerate(asked_of)))
    handle.remove()
    expected = [model.qa(video, question, max_new_tokens=4) for video, question in asked_of]
    assert [one.text for one in found] == [one.text for one in expected]
    reports = [one.report for one in expected]
    assert [one.token_counts for one in found] == [TokenCounts(r.prompt_kept, r.generated) for r in reports]
    assert [text for *_, text in model.cached] == [one.text for one in found]
    assert len(calls) == {1: 4, 2: 3, "3": 2}[batch_size], "the clip with three questions is encoded once"
    ((seconds, _, _, means),) = logged
    assert means["num_requests"] == 6
    assert seconds == pytest.approx(6 * sum(means[f"{stage}_seconds"] for stage in STAGES))


def test_other_settings_of_generation_are_another_batch(model_class, folder, clip):
    model = model_class(folder, batch_size=4, **{"video.frames": 6})
    first, second = answers(
        model, request(about(clip), max_new_tokens=2), request(about(clip, "Why?"), 1, max_new_tokens=5)
    )
    assert (first.token_counts.output_tokens, second.token_counts.output_tokens) == (2, 5)


@pytest.mark.parametrize("batch_size", [0, "many"])
def test_bad_batch_sizes(model_class, folder, batch_size):
    with pytest.raises(StgraphError, match="batch_size must be a whole number ≥ 1"):
        model_class(folder, batch_size=batch_size)
