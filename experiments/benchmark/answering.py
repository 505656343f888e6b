"""Ask the small video LLM about clips, with the tokens that a selector keeps."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from stgraph import Selection, Selector, Signals, StgraphError, VideoQA, VideoTokens
from stgraph.compat import cache_name, cache_of
from stgraph.models.adapter import adapter_of
from stgraph.models.flops import Decoder
from stgraph.selectors.base import Ranking

from .painting import Clip
from .questions import Question

CHECKPOINT = Path(__file__).parent / "checkpoint"


class Outcome(NamedTuple):
    """The answer to one question.

    Attributes:
        type: of the question.
        chosen: index of the likeliest option.
        answer: index of the right one.
        probabilities: of the options among each other, as the first word of the answer.
        kept: visual tokens that the selector kept; all where there is none.
    """

    type: str
    chosen: int
    answer: int
    probabilities: tuple[float, ...]
    kept: int

    @property
    def correct(self) -> bool:
        """Whether the right option was chosen."""
        return self.chosen == self.answer


class Reader:
    """A video LLM that is asked many questions about each clip.

    The vision tower sees a clip once, however many selectors follow. A selector that works before the language model
    does not know the question, so the video's tokens also go through the language model once, and all questions follow
    them in one pass, each seeing the video and itself only. A selector that trims inside the language model looks at
    the question, so there each question has a pass of its own. The answers are those of :class:`stgraph.VideoQA`.

    Attributes:
        qa: what is asked.
        digest: of its weights and configuration.
        selection: of the latest answers (of the last question, where each has its own); None without a selector.
        seconds: of the latest answers: ``selection``, and ``prefill`` of the video (or of all whole prompts).
        flops: of the language model for the video's part of the latest prompt; with the question, where tokens are
            dropped inside (the mean over the questions).
    """

    def __init__(self, qa: VideoQA, digest: str) -> None:
        self.qa = qa
        self.digest = digest
        self.model: Any = qa.model
        self.selection: Selection | None = None
        self.seconds: dict[str, float] = {}
        self.flops = 0.0
        self._flops: list[int] = []
        self._seen: _Seen | None = None

    @classmethod
    def from_pretrained(cls, folder: str | Path = CHECKPOINT, *, dtype: str = "float32") -> Reader:
        """Load a folder of transformers; ``dtype`` as in :meth:`stgraph.VideoQA.from_pretrained`, which raises.

        float32 gives the same answers on every processor, and is 40 times faster than bfloat16 on one that lacks its
        instructions.
        """
        qa = VideoQA.from_pretrained(folder, None, dtype=dtype)
        digest = hashlib.sha256()
        for path in sorted([*Path(folder).glob("*.safetensors"), *Path(folder).glob("*.json")]):
            digest.update(path.read_bytes())
        return cls(qa, digest.hexdigest())

    @torch.no_grad()
    def tokens(self, clip: Clip) -> tuple[VideoTokens, Signals]:
        """The tokens of a clip and the signals of the vision tower, as selectors get them."""
        seen, watch = self._see(clip), _Watch()
        with contextlib.suppress(_EnoughSeen), watch.attach(self.model), self._known_features(seen):
            self.model(**seen.inputs(seen.prefix))
        return watch.seen[0]

    @torch.no_grad()
    def answer(
        self,
        clip: Clip,
        questions: Sequence[Question],
        selector: Selector | None = None,
        *,
        trim: Any = None,
        layer: int | None = None,
    ) -> list[Outcome]:
        """Answer questions about a clip with the tokens that ``selector`` keeps; with all of them when it is None.

        Args:
            clip: asked about.
            questions: about it.
            selector: any; None for all tokens.
            trim: as in :meth:`stgraph.Selector.attach`.
            layer: as in :meth:`stgraph.Selector.attach`.

        Raises:
            StgraphError: the selector does not fit the model, or a question has words that are not in its vocabulary.
        """
        if not questions:
            return []
        seen = self._see(clip)
        attached = None if selector is None else selector.attach(self.model, trim=trim, layer=layer)
        texts = [self._ids(question.text) for question in questions]
        self.selection, self.seconds, self._flops = None, {"selection": 0.0, "prefill": 0.0}, []
        with attached or nullcontext(), self._known_features(seen):
            if attached is not None and attached.trim == "inside":
                rows, kept = [], []
                for text in texts:
                    out = self._prefill(seen.inputs(torch.cat([seen.prefix, text])), attached, use_cache=False)
                    rows.append(out.logits[0, -1])
                    kept.append(len(attached.selection))  # type: ignore[arg-type]
            else:
                out = self._prefill(seen.inputs(seen.prefix), attached, use_cache=True)
                kept = [seen.tokens if attached is None else len(attached.selection)] * len(texts)  # type: ignore[arg-type]
                cache = cache_of(out)
                begin = len(seen.prefix) + int(self.model.model.rope_deltas)
        self.flops = sum(self._flops) / len(self._flops)
        if attached is None or attached.trim == "before":
            rows = list(self._behind(cache, begin, texts))
        return [self._outcome(question, row, n) for question, row, n in zip(questions, rows, kept, strict=True)]

    @torch.no_grad()
    def answer_blind(self, questions: Sequence[Question]) -> list[Outcome]:
        """Answer without any video, from the questions alone."""
        rows = [self.model(input_ids=self._ids(one.text)[None], use_cache=False).logits[0, -1] for one in questions]
        return [self._outcome(one, row, 0) for one, row in zip(questions, rows, strict=True)]

    def _prefill(self, inputs: dict[str, Tensor], attached: Any, *, use_cache: bool) -> Any:
        lengths: list[int] = []
        layers = self.model.model.language_model.layers

        def note(_module: Any, _args: Any, out: Any) -> None:
            lengths.append((out if isinstance(out, Tensor) else out[0]).shape[1])

        handles = [layer.register_forward_hook(note) for layer in layers]
        begun = time.perf_counter()
        try:
            out = self.model(**inputs, use_cache=use_cache, logits_to_keep=1)
        finally:
            for handle in handles:
                handle.remove()
        took = time.perf_counter() - begun
        self._flops.append(Decoder.of(self.model.config.get_text_config()).prefill(lengths))
        if attached is not None:
            self.selection = attached.selection
            chosen = self.selection.seconds["selection"] if self.selection else 0.0
            self.seconds["selection"] += chosen
            took -= chosen
        self.seconds["prefill"] += took
        return out

    def _behind(self, cache: Any, begin: int, texts: Sequence[Tensor]) -> Tensor:
        """(Q, V) logits behind each of the texts, all of which follow what is in the cache at once."""
        ids = torch.cat(list(texts))
        lengths = [len(text) for text in texts]
        number = torch.repeat_interleave(torch.arange(len(texts)), torch.tensor(lengths))
        own = (number[:, None] == number) & torch.ones(len(ids), len(ids), dtype=torch.bool).tril()
        cached = int(cache.get_seq_length())
        mask = torch.cat([torch.ones(len(ids), cached, dtype=torch.bool), own], 1)
        places = begin + torch.cat([torch.arange(length) for length in lengths])
        hidden = self.model.model.language_model(
            inputs_embeds=self.model.get_input_embeddings()(ids[None]),
            attention_mask=mask[None, None],
            position_ids=places.expand(3, 1, -1),
            **{cache_name(): cache},
            use_cache=True,
        ).last_hidden_state[0]
        last = torch.tensor(lengths).cumsum(0) - 1
        found: Tensor = self.model.lm_head(hidden[last])
        return found

    def _outcome(self, question: Question, row: Tensor, kept: int) -> Outcome:
        words = [self._ids(option, ending=False) for option in question.options]
        probabilities = row[torch.cat(words)].float().softmax(0)
        return Outcome(question.type, int(probabilities.argmax()), question.answer, tuple(probabilities.tolist()), kept)

    def _ids(self, text: str, *, ending: bool = True) -> Tensor:
        """Ids of a question up to where its answer begins; or of one word."""
        tokenizer: Any = self.qa.prompt.tokenizer
        said = [{"role": "user", "content": [{"type": "text", "text": text}]}]
        whole = tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True) if ending else text
        ids = torch.tensor(tokenizer.encode(whole, add_special_tokens=False))
        if bool((ids == tokenizer.unk_token_id).any()) or (not ending and len(ids) != 1):
            raise StgraphError(
                f"the model does not know all words of {text!r}; ask with those of experiments.benchmark"
            )
        return ids

    # -- seeing a clip once --------------------------------------------------------------------------------------------

    def _see(self, clip: Clip) -> _Seen:
        if self._seen is None or self._seen.clip is not clip:
            made = self.qa.prompt(clip.video, "x")
            ids = made.pop("input_ids")[0]
            videos = (ids == self.model.config.video_token_id).nonzero()
            made = {key: value for key, value in made.items() if key.startswith(("pixel", "video"))}
            made["pixel_values_videos"] = made["pixel_values_videos"].to(self.model.dtype)
            tower = adapter_of(self.model).vision_attention(self.model)
            calls: list[Any] = []
            assert tower is not None
            handle = tower.register_forward_pre_hook(
                lambda _, args, kwargs: calls.append((args, kwargs)), with_kwargs=True
            )
            try:
                features = self.model.model.get_video_features(**made, return_dict=True)
            finally:
                handle.remove()
            prefix = ids[: int(videos[-1]) + 2]  # with the token that ends the last frame
            self._seen = _Seen(clip, prefix, made, features, calls[-1], len(videos), self.model.config.video_token_id)
        return self._seen

    @contextmanager
    def _known_features(self, seen: _Seen) -> Iterator[None]:
        """Inside, the model takes the clip's features as they are known.

        The attention of the tower that selectors may watch runs again, on what it was given.
        """
        inner = self.model.model
        tower: Any = adapter_of(self.model).vision_attention(self.model)

        def known(*args: Any, **kwargs: Any) -> Any:
            tower(*seen.attention[0], **seen.attention[1])
            return seen.features

        inner.get_video_features = known
        try:
            yield
        finally:
            del inner.get_video_features


class _EnoughSeen(Exception):  # noqa: N818 (no error: it only ends a forward pass)
    """The tokens are known; the rest of the pass is not needed."""


@dataclass(frozen=True, kw_only=True)
class _Watch(Selector):
    """Keeps what selectors are given."""

    seen: list[tuple[VideoTokens, Signals]] = field(default_factory=list)

    def rank(self, tokens: VideoTokens, signals: Signals) -> Ranking:
        self.seen.append((tokens, signals))
        raise _EnoughSeen


class _Seen(NamedTuple):
    """A clip as the model sees it: the video's part of the prompt, its pixels and what the tower makes of them."""

    clip: Clip
    prefix: Tensor
    pixels: dict[str, Tensor]
    features: Any
    attention: tuple[Any, Any]
    tokens: int
    video_token: int

    def inputs(self, ids: Tensor) -> dict[str, Tensor]:
        kinds = 2 * (ids == self.video_token).int()
        return {"input_ids": ids[None], "mm_token_type_ids": kinds[None], **self.pixels}
