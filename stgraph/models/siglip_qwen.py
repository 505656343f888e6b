"""A SigLIP tower that sees frame by frame, a projector and Qwen2: what LLaVA-Video and NVILA have in common.

Composed of the parts of transformers, which has neither model. A video is pixels in and a row of embeddings out; these
take the places of its placeholders in the prompt.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self, cast

import torch
from torch import Tensor, nn
from transformers import (
    AutoModel,
    GenerationConfig,
    GenerationMixin,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    SiglipVisionConfig,
)
from transformers.modeling_outputs import BaseModelOutputWithPast, BaseModelOutputWithPooling, CausalLMOutputWithPast
from transformers.utils.generic import can_return_tuple

from .. import compat
from ..errors import StgraphError
from ..tokens import Grid, SeparatorLayout
from .checkpoint import Weight, check_weights, read_weights

SO400M = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
}
"""SigLIP so400m with patches of 14 pixels, the tower of both models."""

Prefixes = tuple[tuple[str, str], ...]


class Source(NamedTuple):
    """A published folder, understood: what to build and where its weights are.

    Attributes:
        folder: for messages, and for ``generation_config.json``.
        config: of the model to build.
        weights: of the folder, by the name that it gives them.
        prefixes: how names in the folder begin, and how the same names begin in the model; the first that fits counts.
        extended: names, in the folder, of weights that get one more row, of zeros.
    """

    folder: Path
    config: SiglipQwenConfig
    weights: dict[str, Weight]
    prefixes: Prefixes
    extended: tuple[str, ...] = ()

    def read(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
        """The weights of a model whose weights have these ``shapes``, by its names.

        Raises:
            StgraphError: weights are missing, unexpected or of another shape.
        """
        there = tuple((ours, theirs) for theirs, ours in self.prefixes)
        expected = {renamed(name, there): shape for name, shape in shapes.items()}
        head = renamed("lm_head.weight", there)
        if self.config.tie_word_embeddings and head not in self.weights:
            del expected[head]
        extended = expected.keys() & set(self.extended)
        for name in extended:
            expected[name] = (expected[name][0] - 1, *expected[name][1:])
        last = self.config.vision_config.num_hidden_layers
        unused = re.compile(rf"vision_model\.(encoder\.layers\.{last}|post_layernorm|head)\.")
        weights = {name: weight for name, weight in self.weights.items() if not unused.search(name)}
        check_weights(weights, expected, self.folder)
        tensors = read_weights(weights)
        for name in extended:
            tensors[name] = nn.functional.pad(tensors[name], (0, 0, 0, 1))
        return {renamed(name, self.prefixes): tensor for name, tensor in tensors.items()}


def renamed(name: str, prefixes: Prefixes) -> str:
    """``name`` with the first prefix that it has replaced by its partner."""
    for before, after in prefixes:
        if name.startswith(before):
            return after + name.removeprefix(before)
    return name


class SiglipQwenConfig(PreTrainedConfig, ABC):  # type: ignore[misc]
    """Configuration of both parts, and where videos stand in a prompt.

    Attributes:
        vision_config: of the tower's layers that are used; nothing behind them is.
        text_config: of Qwen2.
        video_token_id: the placeholder of a video token in ``input_ids``. No text holds it, and it is never generated.
    """

    sub_configs: ClassVar[dict[str, type]] = {"vision_config": SiglipVisionConfig, "text_config": Qwen2Config}

    def __init__(
        self,
        vision_config: Any = None,
        text_config: Any = None,
        video_token_id: int | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(vision_config, SiglipVisionConfig):
            vision_config = SiglipVisionConfig(**(SO400M | {"vision_use_head": False} | dict(vision_config or {})))
        if not isinstance(text_config, Qwen2Config):
            text_config = Qwen2Config(**(text_config or {}))
        self.vision_config = vision_config
        self.text_config = text_config
        self.video_token_id = text_config.vocab_size - 1 if video_token_id is None else video_token_id
        super().__init__(**(kwargs | {"tie_word_embeddings": text_config.tie_word_embeddings}))

    @property
    def patches(self) -> int:
        """Patches along a side of a frame."""
        return cast(int, self.vision_config.image_size // self.vision_config.patch_size)

    @property
    @abstractmethod
    def separator_layout(self) -> SeparatorLayout:
        """Where newline tokens lie between the tokens of a video."""

    @abstractmethod
    def token_grid(self, frames: int) -> Grid:
        """Of the tokens that a video of so many frames becomes, separators not counted."""


class _Parts(PreTrainedModel):  # type: ignore[misc]
    """What transformers has to know of the model, with its head and without."""

    config_class: ClassVar[type[SiglipQwenConfig]]
    base_model_prefix = "model"
    input_modalities = ("video", "text")
    supports_gradient_checkpointing = True
    _skip_keys_device_placement: ClassVar[list[str]] = list(compat.CACHE_NAMES)
    _no_split_modules: ClassVar[list[str]] = ["SiglipEncoderLayer", "Qwen2DecoderLayer"]
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_attention_backend = True


class SiglipQwenModel(_Parts, ABC):
    """The model without its head."""

    def __init__(self, config: SiglipQwenConfig) -> None:
        super().__init__(config)
        self.vision_tower = AutoModel.from_config(config.vision_config)
        self.vision_tower.post_layernorm = nn.Identity()
        self.mm_projector = self.projector(config)
        self.language_model = AutoModel.from_config(config.text_config)

    @abstractmethod
    def projector(self, config: Any) -> nn.Module:
        """From the tower's features to the embeddings of the language model."""

    @abstractmethod
    def arrange(self, features: Tensor, frames: int) -> Tensor:
        """(videos, tokens and separators, d) from the tower's (videos · frames, patches, d)."""

    def get_input_embeddings(self) -> nn.Module:
        """The embeddings of text."""
        return cast(nn.Module, self.language_model.embed_tokens)

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the embeddings of text."""
        self.language_model.embed_tokens = value

    def get_video_features(self, pixel_values_videos: Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """Videos as embeddings; ``pooler_output`` is (videos, tokens and separators, d).

        Args:
            pixel_values_videos: (videos, frames, 3, side, side).
            kwargs: of other models of transformers, ignored.
        """
        shape, side = tuple(pixel_values_videos.shape), self.config.vision_config.image_size
        if len(shape) != 5 or shape[2:] != (3, side, side):
            raise StgraphError(
                f"pixel_values_videos must be (videos, frames, 3, {side}, {side}), got {shape}; use the processor of "
                "the model"
            )
        pixels = pixel_values_videos.flatten(0, 1).to(self.vision_tower.dtype)
        output = self.vision_tower(pixels)
        output.pooler_output = self.arrange(output.last_hidden_state, shape[1])
        return output

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values_videos: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        mm_encoder_outputs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Hidden states of the last layer; see :meth:`SiglipQwenForConditionalGeneration.forward`."""
        if (input_ids is None) == (inputs_embeds is None):
            raise StgraphError("pass either input_ids or inputs_embeds")
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)
        videos = (mm_encoder_outputs or {}).get("video")
        if pixel_values_videos is not None:
            videos = self.get_video_features(pixel_values_videos)
        if videos is not None:
            if input_ids is None:
                raise StgraphError("the places of the video tokens are read from input_ids; pass these with the videos")
            features = videos.pooler_output.flatten(0, 1).to(inputs_embeds)
            places = input_ids == self.config.video_token_id
            if int(places.sum()) != len(features):
                raise StgraphError(
                    f"the videos have {len(features)} tokens, but input_ids hold {int(places.sum())} placeholders for "
                    "them; use the processor of the model for both"
                )
            inputs_embeds = inputs_embeds.masked_scatter(places[..., None].to(inputs_embeds.device), features)
        return self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            **kwargs,
        )


class SiglipQwenForConditionalGeneration(_Parts, GenerationMixin):  # type: ignore[misc]
    """The model with its head: generates text after a prompt that holds videos.

    Attributes:
        base: class of the model without its head.
    """

    base: ClassVar[type[SiglipQwenModel]]
    _tied_weights_keys: ClassVar[dict[str, str]] = {"lm_head.weight": "model.language_model.embed_tokens.weight"}

    def __init__(self, config: SiglipQwenConfig) -> None:
        super().__init__(config)
        self.model = self.base(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self.post_init()

    @classmethod
    def from_source(cls, source: Source, **options: Any) -> Self:
        """The model of a published folder; ``options`` are those of ``from_pretrained``.

        Raises:
            StgraphError: weights are missing, unexpected or of another shape.
        """
        with torch.device("meta"):
            shapes = {name: tuple(x.shape) for name, x in cls(source.config).state_dict().items()}
        model = cls.from_pretrained(None, config=source.config, state_dict=source.read(shapes), **options)
        model.config.name_or_path = str(source.folder)
        if (source.folder / "generation_config.json").is_file():
            model.generation_config = GenerationConfig.from_pretrained(source.folder)
        suppressed = model.generation_config.suppress_tokens or []
        model.generation_config.suppress_tokens = sorted({*suppressed, source.config.video_token_id})
        return cast(Self, model)

    def get_input_embeddings(self) -> nn.Module:
        """The embeddings of text."""
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the embeddings of text."""
        self.model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """The head."""
        return self.lm_head

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values_videos: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        mm_encoder_outputs: dict[str, Any] | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits of every place of a batch of prompts, as the models of transformers give them.

        Args:
            input_ids: (B, S) int64, with ``config.video_token_id`` at each video token and separator.
            pixel_values_videos: (videos, frames, 3, side, side), in the order of their placeholders, row by row.
            attention_mask: (B, S), 0 for padding.
            position_ids: (B, S) or (1, S).
            inputs_embeds: (B, S, d), in place of ``input_ids``.
            mm_encoder_outputs: ``"video"`` -> what ``get_video_features`` returned, in place of the pixels.
            labels: (B, S), −100 where nothing is to be predicted; then the loss is returned too.
            logits_to_keep: how many of the last places to give logits for, 0 for all.
            kwargs: of the language model, among them the cache of what comes before.

        Raises:
            StgraphError: pixels of another size, or another number of placeholders than of video tokens.
        """
        output = self.model(
            input_ids=input_ids,
            pixel_values_videos=pixel_values_videos,
            attention_mask=attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            mm_encoder_outputs=mm_encoder_outputs,
            **kwargs,
        )
        logits = self.lm_head(output.last_hidden_state[:, -logits_to_keep:])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=logits.shape[-1])
        return CausalLMOutputWithPast(
            **compat.cache_output(output),
            loss=loss,
            logits=logits,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )


def vision_settings(published: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a tower whose features are taken before its last layer."""
    settings = _entries(published, SiglipVisionConfig)
    layers = settings.get("num_hidden_layers", SO400M["num_hidden_layers"])
    return settings | {"num_hidden_layers": layers - 1, "vision_use_head": False}


def text_settings(published: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of Qwen2 among the entries of a published one, in the words of today's transformers."""
    settings = _entries(published, Qwen2Config)
    settings.pop("layer_types", None)  # follow from the others
    if "rope_theta" in published:
        rope = dict(published.get("rope_scaling") or {})
        rope["rope_type"] = rope.pop("type", rope.get("rope_type", "default"))
        settings["rope_parameters"] = rope | {"rope_theta": published["rope_theta"]}
    return settings | {"dtype": published.get("torch_dtype", published.get("dtype"))}


def text_entries() -> set[str]:
    """Entries of a published configuration that are those of Qwen2."""
    return {*(Qwen2Config().to_dict().keys() - PreTrainedConfig().to_dict().keys()), "rope_theta", "rope_scaling"}


def _entries(published: Mapping[str, Any], kind: type[PreTrainedConfig]) -> dict[str, Any]:
    """Those that are particular to a kind of configuration."""
    particular = kind().to_dict().keys() - PreTrainedConfig().to_dict().keys()
    return {key: published[key] for key in particular & published.keys()}
