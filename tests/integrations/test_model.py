"""The model for lmms-eval, with as little of lmms-eval as it touches; the real one has a make target of its own."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace

import pytest
import torch
from PIL import Image

import stgraph.integrations.lmms_eval
from stgraph import StgraphError, VideoQA
from stgraph.app.config import resolve

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
    with pytest.raises(StgraphError, match="of different sizes"):
        answers(model, request(asked(*pictures)))


def test_what_is_refused(model_class, folder, clip):
    with pytest.raises(StgraphError, match="batch_size=1, not 8"):
        model_class(folder, batch_size=8)
    with pytest.raises(StgraphError, match="did you mean 'retention'"):
        model_class(folder, retentoin=0.3)
    with pytest.raises(StgraphError, match="the tokens are the video LLM's own"):
        model_class(folder, encoder="descriptor")
    model = model_class(folder)
    with pytest.raises(StgraphError, match="comes with 2 and 0 pictures"):
        answers(model, request(asked({"type": "video", "url": clip}, {"type": "video", "url": clip})))
    with pytest.raises(StgraphError, match="comes with 0 and 0 pictures"):
        answers(model, request(asked({"type": "text", "text": "What?"})))
    with pytest.raises(StgraphError, match="whose output is generated"):
        model.loglikelihood([])
    with pytest.raises(StgraphError, match="single round"):
        model.generate_until_multi_round([])


def test_lmms_eval_is_imported_by_nobody_else():
    assert not [name for name in sys.modules if name.partition(".")[0] == "lmms_eval"]
