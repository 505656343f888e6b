"""What stgraph assumes of transformers: probed when a selector is attached, and never guessed."""

from __future__ import annotations

import re
import tomllib
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from transformers import DynamicCache, GenerationConfig
from transformers.generation.logits_process import LogitsProcessor, LogitsProcessorList

from stgraph import StgraphError, STSimDiff, compat
from stgraph.models import Attachment

from .test_attachment import RETENTION, ROWS, greedy, model_of, trims
from .zoo import CACHE, FAMILIES, cache_of, language_model

FAMILY = "qwen2_5_vl"


def film(family: str = FAMILY) -> dict[str, Any]:
    return FAMILIES[family].inputs(ROWS[:1])


# -- the cache under either name --------------------------------------------------------------------------------------


def test_the_cache_is_found_under_either_name():
    cache = DynamicCache()
    for name in compat.CACHE_NAMES:
        assert compat.cache_of({name: cache, "use_cache": True}) is cache
    assert compat.cache_of({"cache": None, "past_key_values": cache}) is cache
    assert compat.cache_of({"use_cache": True}) is None
    assert compat.cache_made((torch.zeros(1), cache)) is cache
    assert compat.cache_made((torch.zeros(1),)) is None


def test_a_cache_under_another_name_is_refused():
    with pytest.raises(
        StgraphError, match="the cache was passed as 'memory', but the argument must be cache or past_key_values"
    ):
        compat.cache_of({"memory": DynamicCache()})


def test_this_release_takes_the_cache_under_the_name_that_is_used():
    model = model_of(FAMILY)
    for module in (model, language_model(model), language_model(model).layers[0]):
        names, _ = compat._arguments(type(module))
        assert compat.cache_name() in names


@trims
@pytest.mark.parametrize("family", ["qwen2_5_vl", "llava_onevision"])
def test_a_pass_that_lost_its_cache_is_not_taken_for_a_prompt(family, trim, monkeypatch):
    """As in a release that renames the argument: the second pass has positions, and no cache that is known."""
    model, inputs = model_of(family), film(family)
    with STSimDiff(retention=RETENTION).attach(model, trim=trim):
        original = compat.cache_of
        monkeypatch.setattr(compat, "cache_of", lambda values: None)
        monkeypatch.setattr(compat, "cache_made", original)
        with pytest.raises(StgraphError, match="continues a pruned prompt but was given no cache"):
            greedy(model, inputs)


def test_guidance_does_not_hide_a_lost_cache(monkeypatch):
    family = "llava_next_video"
    model, inputs = model_of(family), film(family)
    negative = torch.arange(20, 26)[None]
    with STSimDiff(retention=RETENTION).attach(model):
        guided = greedy(model, inputs, guidance_scale=1.5, negative_prompt_ids=negative)
        assert guided.sequences.shape[1] == inputs["input_ids"].shape[1] + 4
        original = compat.cache_of
        monkeypatch.setattr(compat, "cache_of", lambda values: None)
        monkeypatch.setattr(compat, "cache_made", original)
        with pytest.raises(StgraphError, match="continues a pruned prompt but was given no cache"):
            greedy(model, inputs, guidance_scale=1.5, negative_prompt_ids=negative)


class Asks(LogitsProcessor):
    """Runs a prompt of its own beside the answer, as guidance does."""

    def __init__(self, model: Any) -> None:
        self.model, self.seen = model, 0

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.seen = self.model(torch.tensor([[9, 10, 11]]), use_cache=False).logits.shape[1]
        return scores


def test_a_processor_may_run_a_prompt_of_its_own():
    model, inputs = model_of(FAMILY), film()
    processor = Asks(model)
    with STSimDiff(retention=RETENTION).attach(model):
        plain = greedy(model, inputs).sequences
        assert torch.equal(greedy(model, inputs, logits_processor=LogitsProcessorList([processor])).sequences, plain)
    assert processor.seen == 3


def test_a_decoder_that_hides_its_cache(monkeypatch):
    model, inputs = model_of(FAMILY), film()
    monkeypatch.setattr(compat, "cache_made", lambda output: None)
    with (
        STSimDiff(retention=RETENTION).attach(model),
        pytest.raises(StgraphError, match="returned no cache of a known type"),
    ):
        model(**inputs, use_cache=True)


# -- signatures -------------------------------------------------------------------------------------------------------


def test_an_unknown_signature_is_refused(monkeypatch):
    model = model_of("llava_onevision")
    decoder, layer = (type(module) for module in (language_model(model), language_model(model).layers[0]))

    def renamed(self: Any, hidden: Any, mask: Any = None, memory: Any = None) -> None:
        raise AssertionError("never called")

    for kind, inside, missing in (
        (type(model), "before", "attention_mask, position_ids, cache or past_key_values"),
        (decoder, "before", "inputs_embeds, attention_mask, position_ids, cache or past_key_values"),
        (layer, "inside", "hidden_states, attention_mask, position_embeddings, cache or past_key_values"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(kind, "forward", renamed)
            compat._arguments.cache_clear()
            version = re.escape(transformers.__version__)
            message = f"^{kind.__name__} of transformers {version} does not take {missing}, so it is not known how"
            with pytest.raises(StgraphError, match=message):
                Attachment(STSimDiff(), model, trim=inside)
        compat._arguments.cache_clear()
    Attachment(STSimDiff(), model, trim="inside")


@pytest.mark.parametrize("name", ["head_dim", "scaling", "q_proj"])
def test_an_attention_without_a_known_attribute_is_refused(name):
    model = FAMILIES["llava_onevision"].build("sdpa")
    delattr(language_model(model).layers[0].self_attn, name)
    with pytest.raises(StgraphError, match="queries and keys cannot be read in Qwen2DecoderLayer, which lacks"):
        Attachment(STSimDiff(), model, trim="inside")
    Attachment(STSimDiff(), model, trim="before")


def test_an_older_release_is_refused(monkeypatch):
    monkeypatch.setattr(compat, "OLDEST", (99,))
    version = re.escape(transformers.__version__)
    with pytest.raises(StgraphError, match=f"needs transformers 99 or later, but this is {version}"):
        Attachment(STSimDiff(), model_of(FAMILY))


def test_arguments_by_position():
    model, inputs = model_of(FAMILY), film()
    ids = inputs.pop("input_ids")
    with STSimDiff(retention=RETENTION).attach(model) as attached:
        model(ids, **inputs)
        assert attached.selection is not None
        with pytest.raises(StgraphError, match="call an attached model with keyword arguments"):
            model(ids, inputs.pop("attention_mask"), **inputs)


# -- options of generate ----------------------------------------------------------------------------------------------


def test_a_configuration_by_position_is_seen():
    model, inputs = model_of(FAMILY), film()
    ids = inputs.pop("input_ids")
    config = GenerationConfig(max_new_tokens=2, do_sample=False, pad_token_id=0, cache_implementation="static")
    with STSimDiff(retention=RETENTION).attach(model):
        with pytest.raises(StgraphError, match="needs a cache that grows, but cache_implementation is 'static'"):
            model.generate(ids, config, **inputs)
        config = GenerationConfig(max_new_tokens=2, do_sample=False, pad_token_id=0)
        assert model.generate(ids, config, **inputs).shape == (1, ids.shape[1] + 2)


@pytest.mark.parametrize("name", compat.OTHER_GENERATION)
def test_continuous_batching_is_refused(name):
    model = model_of(FAMILY)
    own = getattr(model, name)
    with STSimDiff().attach(model), pytest.raises(StgraphError, match=f"^{name} generates in its own loop"):
        getattr(model, name)([[7, 8, 9]])
    assert getattr(model, name) == own
    assert name not in vars(model)


def test_columns_by_number_are_refused():
    model, inputs = model_of(FAMILY), film()
    with STSimDiff(retention=RETENTION).attach(model):
        with pytest.raises(StgraphError, match="logits_to_keep names columns of the whole prompt"):
            model(**inputs, logits_to_keep=torch.tensor([3, 5]))
        assert model(**inputs, logits_to_keep=2).logits.shape[1] == 2


class Stream(nullcontext):
    """In the place of a stream of a GPU, which copies keys and values while the CPU works."""

    def wait_stream(self, other: Any) -> None:
        pass


@pytest.mark.parametrize("kind", ["offloaded", "quantized"])
def test_caches_whose_layers_are_equally_long(kind, monkeypatch):
    """With ``trim="before"`` they are: the answer is that of a cache that simply grows."""
    monkeypatch.setattr(torch, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "default_stream", lambda device: Stream())
    model, inputs = model_of(FAMILY), film()
    options = {"cache_implementation": kind}
    if kind == "quantized":  # those that round less need a library
        options["cache_config"] = {"backend": "fp8"}
    with STSimDiff(retention=RETENTION).attach(model) as attached:
        plain, chosen = greedy(model, inputs), attached.selection
        other = greedy(model, inputs, **options)
        assert attached.selection.digest == chosen.digest
    kept = inputs["input_ids"].shape[1] - len(chosen.mask) + len(chosen)
    assert cache_of(other).get_seq_length() == kept + 3
    torch.testing.assert_close(
        torch.stack(other.logits), torch.stack(plain.logits), atol=1e-5 if kind == "offloaded" else 0.5, rtol=0
    )
    with (
        STSimDiff(retention=RETENTION).attach(model, trim="inside"),
        pytest.raises(StgraphError, match="needs a cache whose layers can differ in length"),
    ):
        greedy(model, inputs, **options)


# -- a cache that several questions go on from ------------------------------------------------------------------------


@trims
def test_branches_of_a_cache(trim):
    model, inputs = model_of(FAMILY), film()
    with STSimDiff(retention=RETENTION).attach(model, trim=trim) as attached:
        first = greedy(model, inputs, 1)
        following = {"input_ids": torch.cat([inputs["input_ids"], torch.tensor([[20, 21, 22]])], 1)}
        following["attention_mask"] = torch.ones_like(following["input_ids"])
        answers = [greedy(model, following, **{CACHE: attached.branch(cache_of(first))}).sequences for _ in range(2)]
        both = greedy(
            model,
            {name: x.repeat(2, 1) for name, x in following.items()},
            **{CACHE: attached.branch(cache_of(first), copies=2)},
        ).sequences
        once = greedy(model, following, **{CACHE: cache_of(first)}).sequences
        with pytest.raises(StgraphError, match="not from a prompt pruned in this with block"):
            attached.branch(DynamicCache())
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], once)
    assert torch.equal(both, once.repeat(2, 1))


def test_both_ends_of_the_stated_range_are_tested():
    root = Path(__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]["models"]
    (stated,) = (Requirement(line).specifier for line in project if line.startswith("transformers"))
    workflow = yaml.safe_load((root / ".github/workflows/test.yml").read_text())
    lowest, newest = map(Version, workflow["jobs"]["models"]["strategy"]["matrix"]["transformers"])
    assert stated == SpecifierSet(f">={lowest.major}.{lowest.minor},<{newest.major}.{newest.minor + 1}")
    assert lowest.release[:2] == compat.OLDEST
    assert f"transformers=={newest}\n" in (root / "constraints.txt").read_text()
    assert Version(transformers.__version__) in stated


def test_what_accelerate_offloads_and_transformers_reads_elsewhere_is_refused(tmp_path):
    """transformers fails alike without a selector; where that ends, so may the refusal."""
    from accelerate import disk_offload

    family = FAMILIES["llava_onevision"]
    model, inputs = family.build("sdpa"), family.inputs(ROWS[:1])
    disk_offload(model, tmp_path, torch.device("cpu"))
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        model.generate(**inputs, max_new_tokens=1)
    with pytest.raises(StgraphError, match=r"^model\.image_newline is offloaded, .* 'model\.image_newline': 0 in dev"):
        STSimDiff().attach(model)


def test_a_pooling_head_cannot_be_offloaded(tmp_path):
    from accelerate import disk_offload

    model = FAMILIES["qwen2_5_vl"].build("sdpa")
    model.model.visual.head = torch.nn.MultiheadAttention(4, 1)
    disk_offload(model, tmp_path, torch.device("cpu"))
    with pytest.raises(StgraphError, match=r"^model\.visual\.head\.out_proj\.weight is offloaded"):
        STSimDiff().attach(model)
