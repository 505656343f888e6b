"""What is peculiar to some families: videos that come as images, [CLS] tokens, layers that cannot be pruned."""

from __future__ import annotations

import re
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers.models.internvl.processing_internvl import InternVLProcessor
from transformers.models.smolvlm import processing_smolvlm
from transformers.models.smolvlm.processing_smolvlm import SmolVLMProcessor, get_image_prompt_string

from stgraph import StgraphError, STSimDiff, VideoTokens, compat
from stgraph.budget import ceil_share
from stgraph.graph import build_graph
from stgraph.models import MODELS
from stgraph.models.internvl import InternVL
from stgraph.models.smolvlm import SmolVLM
from stgraph.selectors.base import Ranking, Selector
from stgraph.selectors.uniform import UniformSelector

from .test_attachment import RETENTION, greedy, model_of
from .zoo import FAMILIES, LAYERS, PATCH, SIDE, VIDEO, masked_run

# -- videos that come as images ----------------------------------------------------------------------------------------

SIDE_TOKENS = 2  # of a tile of SIDE pixels, in both families
AREA = SIDE_TOKENS**2
ADAPTERS = {"internvl": InternVL, "smolvlm": SmolVLM}
SETTINGS = {
    "internvl": SimpleNamespace(
        image_token_id=VIDEO, vision_config=SimpleNamespace(patch_size=[PATCH, PATCH]), downsample_ratio=0.5
    ),
    "smolvlm": SimpleNamespace(image_token_id=VIDEO, vision_config=SimpleNamespace(patch_size=PATCH), scale_factor=2),
}
image_families = pytest.mark.parametrize("family", list(ADAPTERS))


def video_text(family: str, frames: int) -> str:
    """What the processor of the family writes for a video."""
    if family == "internvl":
        marks = SimpleNamespace(
            start_image_token="<img>", end_image_token="</img>", image_token="<image>", image_seq_length=AREA
        )
        inputs = {"pixel_values_videos": [torch.zeros(frames, 1)]}
        return InternVLProcessor.replace_video_token(marks, inputs, 0)
    marks = SimpleNamespace(
        image_seq_len=AREA, image_token="<image>", fake_image_token="<fake>", global_image_token="<global>"
    )
    metadata = SimpleNamespace(fps=1, timestamps=[7.0 * i for i in range(frames)], duration=7.0 * frames)
    inputs = {"pixel_values": torch.zeros(1, frames), "video_metadata": [metadata]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processing_smolvlm, "num2words", str)
        return SmolVLMProcessor.replace_video_token(marks, inputs, 0)


def image_text(family: str, tiles: int) -> str:
    """What the processor of the family writes for an image in tiles (SmolVLM: two rows of them, and the whole)."""
    if family == "internvl":
        return InternVLProcessor.replace_image_token(
            SimpleNamespace(
                start_image_token="<img>", end_image_token="</img>", image_token="<image>", image_seq_length=AREA
            ),
            {"num_patches": [tiles]},
            0,
        )
    rows = 2 if tiles > 1 else 0
    return get_image_prompt_string(rows, tiles // 2, AREA, "<fake>", "<image>", "<global>")


def tile_count(family: str, tiles: int) -> int:
    return tiles if family == "internvl" or tiles == 1 else tiles + 1


def tokenize(text: str) -> list[str]:
    """Special tokens, words and digits, as the tokenizers of both families divide them."""
    return re.findall(r"<[^<>]+>|\n+|\d| ?[A-Za-z]+|[^\w\s]| ", text)


def inputs_of(*texts: str) -> dict[str, Tensor]:
    """A left-padded batch."""
    rows = [tokenize(text) for text in texts]
    words = {word: VIDEO + 1 + i for i, word in enumerate(sorted({w for row in rows for w in row} - {"<image>"}))}
    ids = [[words.get(word, VIDEO) for word in row] for row in rows]
    longest = max(map(len, ids))
    return {
        "input_ids": torch.tensor([[0] * (longest - len(row)) + row for row in ids]),
        "pixel_values": torch.zeros(1, 3, SIDE, SIDE),
    }


def found_videos(family: str, inputs: dict[str, Tensor], **fields: Any) -> list[tuple[int, ...]]:
    """The numbers of the tiles of each video; checks that placeholders are exactly theirs."""
    adapter, model = ADAPTERS[family](**fields), SimpleNamespace(config=SETTINGS[family])
    layouts = adapter.layouts(model, inputs)
    assert all(layout.grid == (len(layout.images), SIDE_TOKENS, SIDE_TOKENS) for layout in layouts)
    tiles = (inputs["input_ids"] == VIDEO).nonzero().view(-1, AREA, 2)
    expected = torch.zeros_like(inputs["input_ids"], dtype=torch.bool)
    for layout in layouts:
        for row, column in tiles[list(layout.images)].flatten(0, 1).tolist():
            expected[row, column] = True
    assert torch.equal(adapter.placeholders(model, inputs), expected)
    return [layout.images for layout in layouts]


@image_families
def test_labels_are_as_long_as_the_processor_writes_them(family):
    text = video_text(family, 128)
    between = re.split("(?:<image>)+", text)[1:-1]
    lengths = {len(tokenize(part)) for part in between}
    assert len(between) == 127
    label = ADAPTERS[family].label
    assert label.start + 1 < min(lengths) <= max(lengths) < label.stop - 3  # other tokenizers may differ a little


WORDS = "and here is what was seen on the way home last night in the rain by all of us who were there "
segments = st.one_of(
    st.tuples(st.just("video"), st.integers(1, 5)),
    st.tuples(st.just("image"), st.sampled_from([1, 4, 6])),
    st.tuples(st.just("images side by side"), st.integers(2, 3)),
)


@given(family=st.sampled_from(list(ADAPTERS)), prompts=st.lists(st.lists(segments, max_size=4), min_size=1, max_size=3))
def test_frames_of_a_video_are_told_from_images(family, prompts):
    texts, expected, tiles = [], [], 0
    for prompt in prompts:
        text = WORDS
        for kind, count in prompt:
            if kind == "video":
                text += video_text(family, count)
                number = count
                if count > 1:
                    expected.append(tuple(range(tiles, tiles + count)))
            elif kind == "image":
                text += image_text(family, count)
                number = tile_count(family, count)
            else:
                text += image_text(family, 1) * count
                number = count
            tiles += number
            text += WORDS
        texts.append(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compat, "tokenizer_of", lambda model: Words(*texts))
        assert found_videos(family, inputs_of(*texts)) == expected


@image_families
def test_media_that_no_text_divides(family):
    video, image, tiled = video_text(family, 4), image_text(family, 1), image_text(family, 4)
    count = tile_count(family, 4)
    assert found_videos(family, inputs_of(video + "\n" + image)) == [(0, 1, 2, 3)]
    assert found_videos(family, inputs_of(video + "\n" + tiled)) == [(0, 1, 2, 3)]
    assert found_videos(family, inputs_of(tiled + "\n" + video)) == [tuple(range(count, count + 4))]
    both = inputs_of(image + "\n" + video + "\n" + video)
    divided = [(1, 2, 3, 4), (5, 6, 7, 8)]
    assert found_videos(family, both) == divided
    assert found_videos(family, both, frames=(1, 4, 4)) == divided
    assert found_videos(family, both, frames=3) == [(0, 1, 2), (3, 4, 5), (6, 7, 8)]
    assert found_videos(family, both, frames=1) == []


@image_families
@pytest.mark.parametrize("between", ["", "\n", "Image: ", "and then ", "a cat, "])
def test_pictures_whose_texts_do_not_count_are_left_alone(family, between):
    text = WORDS + "".join(between + image_text(family, 1) for _ in range(4)) + WORDS
    assert found_videos(family, inputs_of(text)) == []
    assert found_videos(family, inputs_of(text), frames=4) == [(0, 1, 2, 3)]


class Words:
    """A tokenizer that knows the words of :func:`tokenize`."""

    def __init__(self, *texts: str) -> None:
        words = sorted({word for text in texts for word in tokenize(text)} - {"<image>"})
        self.words = {VIDEO + 1 + i: word for i, word in enumerate(words)} | {VIDEO: "<image>", 0: ""}

    def decode(self, ids: list[int]) -> str:
        return "".join(self.words[i] for i in ids)


def test_words_decide_where_they_can_be_read(monkeypatch):
    """Pictures that are counted as frames are: ``Image-1:``, as InternVL is shown several."""
    pictures = "".join(f"Image-{n}: {image_text('internvl', 1)}\n" for n in range(1, 5))
    assert found_videos("internvl", inputs_of(pictures)) == [(0, 1, 2, 3)], "nobody can tell from the ids"
    for text, expected in ((pictures, []), (video_text("internvl", 4), [(0, 1, 2, 3)])):
        monkeypatch.setattr(compat, "tokenizer_of", lambda model, text=text: Words(text))
        assert found_videos("internvl", inputs_of(text)) == expected
    text = video_text("smolvlm", 12)
    monkeypatch.setattr(compat, "tokenizer_of", lambda model: Words(text))
    assert found_videos("smolvlm", inputs_of(text)) == [tuple(range(12))]


@image_families
def test_what_was_taken_for_a_video_is_said(family):
    model, inputs = model_of(family), FAMILIES[family].inputs([[4]])
    with UniformSelector(retention=0.5).attach(model) as attached:
        greedy(model, inputs, 1)
        said = attached.selection.notes[-1]
        model(**inputs)
        assert attached.selection.notes[-1] == said
    assert said.startswith("images 1 to 4 were taken for the frames of one video, because the texts before them")
    with UniformSelector(retention=0.5).attach(model, adapter=ADAPTERS[family](frames=4)) as attached:
        greedy(model, inputs, 1)
    assert not any("taken for" in note for note in attached.selection.notes)
    inputs["input_ids"][inputs["input_ids"] >= 20] = 12  # the same text before each
    attached = UniformSelector(retention=0.5).attach(model)
    with attached, pytest.warns(UserWarning, match="^4 images were left alone"):
        greedy(model, inputs, 1)
    assert attached.selection is None


def test_frames_that_do_not_fit():
    inputs = inputs_of(video_text("internvl", 4))
    for frames in ((2, 1), 3, (5,)):
        with pytest.raises(StgraphError, match="does not add up to the 4 images of this call"):
            found_videos("internvl", inputs, frames=frames)
    for frames in (0, (4, 0), ()):
        with pytest.raises(StgraphError, match="frames must be at least 1"):
            InternVL(frames=frames)
    inputs["input_ids"][0, (inputs["input_ids"][0] == VIDEO).nonzero()[1]] = VIDEO + 1
    with pytest.raises(StgraphError, match="every image of this call has 4 tokens, but row 0"):
        found_videos("internvl", inputs)


@image_families
@pytest.mark.parametrize("trim", ["before", "inside"])
def test_an_image_beside_a_video_stays_whole(family, trim):
    model, inputs = model_of(family), FAMILIES[family].inputs([[5], [4]])
    ids = inputs["input_ids"]
    # In the first prompt, the first frame becomes an image: a long text now stands behind it.
    end = int((ids[0] == VIDEO).nonzero()[AREA - 1]) + 1
    inputs["input_ids"] = torch.cat([ids[:, :end], torch.full((2, 20), 11), ids[:, end:]], 1)
    inputs["input_ids"][1] = torch.cat([torch.zeros(20, dtype=torch.int64), ids[1]])
    inputs["attention_mask"] = (inputs["input_ids"] != 0).long()
    with STSimDiff(retention=RETENTION).attach(model, trim=trim) as attached:
        out = greedy(model, inputs)
    selection = attached.selection
    places = inputs["input_ids"] == VIDEO
    places[0, : end + 20] = False
    assert selection.budget == (ceil_share(RETENTION, 16),) * 2

    def hide(kept: Tensor) -> Tensor:
        gone = torch.zeros_like(places)
        gone[places] = ~kept
        return gone

    early = hide(selection.candidate > 0 if trim == "inside" else selection.mask)
    hidden = [early] * 2 + [hide(selection.mask)] * (LAYERS - 2)
    reference = masked_run(model, inputs, out.sequences, hidden)
    torch.testing.assert_close(torch.stack(out.logits, 1), reference.logits, atol=1e-4, rtol=0)


def test_an_adapter_can_be_given():
    model, inputs = model_of("internvl"), FAMILIES["internvl"].inputs([[4, 2], [6]])
    with UniformSelector(retention=0.5).attach(model, adapter=InternVL(frames=(4, 2, 3, 3))) as attached:
        greedy(model, inputs)
    assert attached.selection.budget == (8, 4, 6, 6)
    plain = greedy(model, inputs)
    with UniformSelector(retention=0.5).attach(model, adapter=InternVL(frames=1)) as attached:
        alone = greedy(model, inputs)
    assert attached.selection is None
    assert torch.equal(torch.stack(plain.logits), torch.stack(alone.logits))


# -- [CLS] tokens before frames ----------------------------------------------------------------------------------------


class Wanted(Selector):
    """Keeps the first tokens of the frames that are wanted most."""

    def rank(self, tokens, signals):
        wanted = torch.tensor([0.3, 0.9, 0.1, 0.5])[tokens.coords[:, 0]]
        return Ranking(importance=wanted - torch.arange(len(tokens)) * 1e-4)


def test_class_tokens_stay_with_the_frames_that_keep_most():
    inputs = FAMILIES["video_llava"].inputs([[4], [4, 4]])
    with Wanted(retention=0.4).attach(model_of("video_llava")) as attached:
        greedy(model_of("video_llava"), inputs, 1)
    selection = attached.selection
    for video in range(3):
        rows = selection.batch == video
        mask, frame = selection.mask[rows], selection.coords[rows, 0]
        cls = selection.coords[rows, 1] < 0
        assert cls.nonzero()[:, 0].tolist() == [17 * t for t in range(4)]
        kept = [int(mask[~cls & (frame == t)].sum()) for t in range(4)]
        assert kept == [0, 16, 0, ceil_share(0.4, 64) - 16]
        assert mask[cls].tolist() == [False, True, False, True]  # ⌈0.4 · 4⌉ of them


@pytest.mark.parametrize("present", [True, False])
def test_class_tokens_as_vertices_lie_above_their_frame(present):
    features = torch.randn(3 * 5, 6, generator=torch.Generator().manual_seed(0))
    tokens = VideoTokens.from_sequence(features, (3, 2, 2), separator_layout="frame_start")
    assert tokens.separator.nonzero()[:, 0].tolist() == [0, 5, 10]
    assert torch.equal(tokens.lattice(0).flatten(0, 2), features[~tokens.separator])
    if not present:
        tokens = tokens.take(torch.tensor([0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14]))
    graph = build_graph(tokens, separators_as_vertices=True)
    coords = tokens.coords.tolist()
    expected = {
        (a, b)
        for a, left in enumerate(coords)
        for b, right in enumerate(coords)
        if [y - x for x, y in zip(left, right, strict=True)] in ([1, 0, 0], [0, 1, 0], [0, 0, 1])
    }
    assert set(map(tuple, graph.edge_index.T.tolist())) == expected
    assert len(build_graph(tokens).coords) == int((~tokens.separator).sum())


# -- signals of the vision tower ---------------------------------------------------------------------------------------


class Probe(Selector):
    """Remembers what it was given."""

    def rank(self, tokens, signals):
        seen.append((tokens, signals.require("encoder_attention", "probe"), signals.require("encoder_keys", "probe")))
        return Ranking(importance=torch.zeros(len(tokens)))


seen: list[tuple[VideoTokens, Tensor, Tensor]] = []


@pytest.mark.parametrize("family", ["internvl", "smolvlm", "video_llava"])
def test_signals_equal_those_of_an_eager_tower(family, monkeypatch):
    inputs = FAMILIES[family].inputs([[4], [4]])
    seen.clear()
    with Probe().attach(model_of(family)):
        greedy(model_of(family), inputs, 1)
    ((tokens, attention, keys),) = seen

    model, tower = model_of(family, "eager"), MODELS.get(family)().vision_attention(model_of(family, "eager"))
    modeling = sys.modules[type(tower).__module__]
    eager = modeling.eager_attention_forward
    found: list[tuple[Tensor, Tensor]] = []

    def spy(module: Any, query: Tensor, key: Tensor, *args: Any, **kwargs: Any) -> Any:
        output = eager(module, query, key, *args, **kwargs)
        if module is tower:
            found.append((output[1].mean(1), key.mean(1)))
        return output

    monkeypatch.setattr(modeling, "eager_attention_forward", spy)
    with torch.no_grad():
        model(**inputs)
    ((weights, tower_keys),) = found  # (8 frames, n, n) and (8, n, d)
    assert len(weights) == 8
    if family == "smolvlm":  # no [CLS]: the mean over the queries of the frame
        received = weights.mean(1)
    else:
        received, tower_keys = weights[:, 0, 1:], tower_keys[:, 1:]
    for signal, patches in ((attention[:, None], received[..., None]), (keys, tower_keys)):
        merged = 1 if family == "video_llava" else 2
        grid = patches.unflatten(1, (SIDE // PATCH // merged, merged, SIDE // PATCH // merged, merged)).mean((2, 4))
        torch.testing.assert_close(signal[~tokens.separator], grid.flatten(0, 2), atol=1e-5, rtol=1e-4)
        assert not bool(signal[tokens.separator].any())


# -- layers that cannot be pruned --------------------------------------------------------------------------------------


def test_linear_attention_is_refused(monkeypatch):
    model = model_of("qwen3_5")
    monkeypatch.setattr(model.config.text_config, "layer_types", ["linear_attention", "full_attention"] * 2)
    with pytest.raises(StgraphError, match=r"needs full attention in every layer .* has linear_attention"):
        STSimDiff().attach(model)
