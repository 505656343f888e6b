"""Families whose prompts hold a video as one image for each frame."""

from __future__ import annotations

import itertools
import re
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn

from .. import compat
from ..errors import StgraphError
from ..tokens import Grid
from .adapter import Adapter, VideoLayout

NUMBER = 8
"""Tokens that may differ between two labels: the digits of a number or of a time."""

T = TypeVar("T")


class Tile(NamedTuple):
    """The placeholders of a frame, of an image, or of a part of one.

    Attributes:
        number: among all tiles of the call.
        row: of the batch.
        start: first column.
        end: the column after the last.
        text: the tokens before it, since the tile before it or the beginning of the row.
        opens: it is the first of its row.
    """

    number: int
    row: int
    start: int
    end: int
    text: list[int]
    opens: bool


@dataclass(frozen=True)
class FramesAsImages(Adapter):
    """Frames come as images, with a text such as ``Frame7:`` or a timestamp before each; the inputs tell no more.

    So images of one tile are taken for the frames of one video where the texts before them count: each is that before
    it, but for a number that grows. Where the tokenizer of the model is there (in its folder, or in the cache of the
    Hub), its words decide: they must be those that the processor of the family writes. The notes of a selection list
    what was taken for a video. All other images are left alone: those cut into tiles, single ones, those that no text
    or the same text divides. Where that is wrong, say how they divide up: ``InternVL(frames=(1, 8))`` as the adapter.

    Attributes:
        frames: numbers of tiles that belong together, over all prompts of a call: ``(1, 8)`` is an image, which is
            left alone, and a video of 8 frames. One number holds for all: ``1`` leaves all alone. None goes by the text
            between them.

    Raises:
        StgraphError: ``frames`` below 1; in a call, ``frames`` that its images do not add up to.
    """

    pixels: ClassVar[str] = "pixel_values"
    label: ClassVar[range]
    """Lengths, in tokens, that the text between two frames can have, the marks around images included."""

    words: ClassVar[re.Pattern[str]]
    """What the processor of the family writes before a frame."""

    frames: int | tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        counts = (self.frames,) if isinstance(self.frames, int) else self.frames
        if counts is not None and min(counts, default=0) < 1:
            raise StgraphError(f"frames must be at least 1 for each image or video, got {self.frames}")

    @abstractmethod
    def sides(self, model: nn.Module) -> tuple[int, int]:
        """Pixels along the side of a patch, and patches along the side of a token."""

    @abstractmethod
    def continues(self, text: list[int]) -> bool:
        """Whether the tokens between two tiles are none but those between the tiles of one image."""

    def video_token(self, model: nn.Module) -> int:
        """The placeholder of images."""
        return cast(int, cast(Any, model).config.image_token_id)

    def layouts(self, model: nn.Module, inputs: Mapping[str, Any]) -> list[VideoLayout]:
        """Square frames."""
        patches, side = self._grid(model, inputs)
        return [
            VideoLayout(
                Grid(len(video), side, side),
                patches=(patches, patches),
                images=tuple(frame.number for frame in video),
            )
            for video in self._videos(model, inputs)
        ]

    def placeholders(self, model: nn.Module, inputs: Mapping[str, Any]) -> Tensor:
        """Those of frames, and of no other image."""
        found = torch.zeros_like(inputs["input_ids"], dtype=torch.bool)
        for frame in itertools.chain(*self._videos(model, inputs)):
            found[frame.row, frame.start : frame.end] = True
        return found

    def pool(self, model: nn.Module, patches: Tensor, layout: VideoLayout) -> Tensor:
        """The mean of the patches of each token, which is made of all their features."""
        _, height, width = layout.grid
        rows, columns = cast("tuple[int, int]", layout.patches)
        tokens: Tensor = patches.unflatten(1, (height, rows // height, width, columns // width)).mean((2, 4))
        return tokens

    def _grid(self, model: nn.Module, inputs: Mapping[str, Any]) -> tuple[int, int]:
        """Patches and tokens along the side of a tile."""
        patch, merged = self.sides(model)
        shape = tuple(inputs[self.pixels].shape)
        if len(shape) not in (4, 5):
            raise StgraphError(
                f"{self.pixels} must be (images, channels, height, width), or the same for each row, got {shape}; use "
                "the processor of the model"
            )
        patches = shape[-1] // patch
        return patches, patches // merged

    def _videos(self, model: nn.Module, inputs: Mapping[str, Any]) -> list[list[Tile]]:
        """The frames of each video, in the order of the prompts."""
        area = self._grid(model, inputs)[1] ** 2
        tiles = list(_tiles(inputs["input_ids"], self.video_token(model), area))
        groups = self._labelled(model, tiles) if self.frames is None else self._counted(tiles, self.frames)
        return [group for group in groups if len(group) > 1]

    def notes(self, model: nn.Module, inputs: Mapping[str, Any]) -> tuple[str, ...]:
        """Which images were taken for a video, and which were not although there are several."""
        if self.frames is not None:
            return ()
        videos, area = self._videos(model, inputs), self._grid(model, inputs)[1] ** 2
        tiles = list(_tiles(inputs["input_ids"], self.video_token(model), area))
        known = {tile.number for video in videos for tile in video}
        say = f"{type(self).__name__}(frames=...) as the adapter says otherwise"
        taken = [
            f"images {video[0].number + 1} to {video[-1].number + 1} were taken for the frames of one video, because "
            f"the texts before them count; {say}"
            for video in videos
        ]
        alone = [image for image in self._images(tiles) if len(image) == 1 and image[0].number not in known]
        if len(alone) > 1 and not taken:
            taken = [f"{len(alone)} images were left alone, because no texts that count show them to be frames; {say}"]
        return tuple(taken)

    def _images(self, tiles: list[Tile]) -> list[list[Tile]]:
        """The tiles of each image."""
        return _chains(tiles, lambda _, tile: not tile.opens and self.continues(tile.text))

    def _labelled(self, model: nn.Module, tiles: list[Tile]) -> list[list[Tile]]:
        """Images of one tile whose labels count."""
        read, images = compat.tokenizer_of(model), self._images(tiles)
        follows = self._follows if read is None else partial(self._said_to_follow, read)
        videos = _chains(images, lambda a, b: len(a) == len(b) == 1 and not b[0].opens and follows(a[0], b[0]))
        return [list(itertools.chain(*video)) for video in videos if len(video) > 1]

    def _said_to_follow(self, tokenizer: Any, frame: Tile, following: Tile) -> bool:
        """Whether the words before two tiles are those of frames, the second later than the first."""
        found = [self.words.search(tokenizer.decode(tile.text[-self.label.stop :])) for tile in (frame, following)]
        one, two = ([int(number) for number in match.groups()] if match else [] for match in found)
        return bool(one) and one < two

    def _follows(self, frame: Tile, following: Tile) -> bool:
        """Whether the label of a tile is the next one after that of the tile before it, as far as ids tell."""
        if len(following.text) not in self.label:
            return False
        # Whatever closes the frame before comes first in a label, and is not there before the first frame.
        return any(
            _counts(frame.text[-(len(label) - longer) :], label)
            for label in (following.text[closed:] for closed in range(4))
            for longer in (0, 1)
        )

    @staticmethod
    def _counted(tiles: list[Tile], frames: int | tuple[int, ...]) -> list[list[Tile]]:
        """Groups of the sizes ``frames``."""
        counts = (frames,) * (len(tiles) // frames) if isinstance(frames, int) else frames
        if sum(counts) != len(tiles):
            raise StgraphError(
                f"frames={frames} does not add up to the {len(tiles)} images of this call; give the number of frames "
                "of each video, and 1 for each image"
            )
        rest = iter(tiles)
        return [list(itertools.islice(rest, count)) for count in counts]


def _tiles(ids: Tensor, placeholder: int, area: int) -> Iterator[Tile]:
    """The tiles of (B, S) token ids, row by row."""
    number = itertools.count()
    for row, tokens in enumerate(ids.tolist()):
        end, opens = 0, True
        columns = [column for column, token in enumerate(tokens) if token == placeholder]
        for first, last in zip(columns[::area], [*columns[area - 1 :: area], -1], strict=False):
            if last - first != area - 1:
                raise StgraphError(
                    f"every image of this call has {area} tokens, but row {row} of input_ids holds another number of "
                    "placeholders for an image; use the processor of the model"
                )
            yield Tile(next(number), row, first, last + 1, tokens[end:first], opens)
            end, opens = last + 1, False


def _counts(label: list[int], following: list[int]) -> bool:
    """Whether two labels differ in a number alone, in which the second is the larger; digits have ascending ids."""
    shorter = min(len(label), len(following))
    begin = next((i for i in range(shorter) if label[i] != following[i]), shorter)
    end = next((i for i in range(shorter - begin) if label[-1 - i] != following[-1 - i]), shorter - begin)
    one, two = (x[begin : len(x) - end] for x in (label, following))
    return begin > 0 and end > 0 and bool(one) and len(two) <= NUMBER and (len(one), one) < (len(two), two)


def _chains(items: Sequence[T], linked: Callable[[T, T], bool]) -> list[list[T]]:
    """Longest runs of items in which each is linked to the next."""
    chains: list[list[T]] = []
    for item in items:
        if chains and linked(chains[-1][-1], item):
            chains[-1].append(item)
        else:
            chains.append([item])
    return chains
