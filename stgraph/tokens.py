"""VideoTokens: the visual tokens of one or many videos, with their place in space and time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from .errors import StgraphError, check_choice
from .late_binding import above

FEATURE_DTYPES = (torch.float32, torch.float16, torch.bfloat16)

SeparatorLayout = Literal["none", "row", "frame", "frame_start", "trailing"]


class Grid(NamedTuple):
    """Size of a video's token grid."""

    frames: int
    height: int
    width: int

    @property
    def size(self) -> int:
        """Number of grid positions."""
        return self.frames * self.height * self.width


@dataclass(frozen=True, eq=False)
class VideoTokens:
    """The visual tokens of one or many videos: the vertices of the spatiotemporal graph are made from them.

    Tokens are grouped by video and lie in raster order (frame, row, column) within each; grid positions may be missing.
    Separators (the newline tokens that LLaVA models put between rows or after a video, a frame's [CLS]) are tokens of
    the LLM but of no grid position. They have a place on the border around the grid: a row separator sits at column
    ``width`` of its row, a frame's [CLS] at row −1, what closes a frame or the video at row ``height``. Whatever looks
    for places takes their numbers from :func:`raster_keys`, in which no two places are alike.

    Attributes:
        features: (N, d) float32, float16 or bfloat16; never copied, any device.
        coords: (N, 3) int64, (frame, row, column) of each token.
        batch: (N,) int64, which video each token belongs to, non-decreasing.
        separator: (N,) bool, True for separators.
        grids: one :class:`Grid` per video.
        timestamps: one (frames,) float64 tensor of seconds per video, or None when unknown.

    Everything is checked when the value is made; what is derived from it (:meth:`take`, :meth:`cat`, :meth:`video`) is
    not checked again.

    Raises:
        StgraphError: shapes, dtypes or orders that do not fit together.
    """

    features: Tensor
    coords: Tensor
    batch: Tensor
    separator: Tensor
    grids: tuple[Grid, ...]
    timestamps: tuple[Tensor, ...] | None = None

    def __post_init__(self) -> None:
        _check_features(self.features)
        n = self.features.shape[0]
        for name, shape, dtype in (
            ("coords", (n, 3), torch.int64),
            ("batch", (n,), torch.int64),
            ("separator", (n,), torch.bool),
        ):
            value = getattr(self, name)
            if tuple(value.shape) != shape or value.dtype != dtype or value.device != self.features.device:
                raise StgraphError(
                    f"{name} must be {shape} {dtype} on {self.features.device} for {n} tokens, got "
                    f"{tuple(value.shape)} {value.dtype} on {value.device}"
                )
        if not self.grids:
            raise StgraphError("VideoTokens needs at least one video")
        for index, grid in enumerate(self.grids):
            if min(grid) < 1:
                raise StgraphError(f"video {index} has grid {tuple(grid)}; frames, height and width must be at least 1")
        if self.timestamps is not None:
            _check_timestamps(self.timestamps, self.grids)
        if n:
            self._check_order()

    def _check_order(self) -> None:
        batch, coords = self.batch, self.coords
        if int(batch.min()) < 0 or int(batch.max()) >= len(self.grids):
            raise StgraphError(f"batch must hold video numbers from 0 to {len(self.grids) - 1}")
        # A separator lies on the border around the grid: one row above and below, one column to the right.
        border = self.separator[:, None] * torch.tensor([[0, 1, 1]], device=self.device)
        above = self.separator[:, None] * torch.tensor([[0, 1, 0]], device=self.device)
        limits = torch.tensor(self.grids, device=self.device)[batch]
        wrong = ~((coords >= -above) & (coords < limits + border)).all(1)
        if bool(wrong.any()):
            i = int(wrong.nonzero()[0])
            raise StgraphError(
                f"token {i} of video {int(batch[i])} is at {tuple(coords[i].tolist())}, outside its grid "
                f"{tuple(self.grids[int(batch[i])])}"
            )
        key, _ = raster_keys(coords, batch)
        if bool((key[1:] <= key[:-1]).any()):
            i = int((key[1:] <= key[:-1]).nonzero()[0]) + 1
            raise StgraphError(
                "tokens must be grouped by video and in raster order (frame, row, column) without repeats; "
                f"token {i} is not after token {i - 1}"
            )

    # -- construction ---------------------------------------------------------------------------------------------

    @classmethod
    def from_grid(
        cls,
        grid: Tensor | Sequence[Tensor],
        *,
        mask: Tensor | Sequence[Tensor] | None = None,
        newline: bool = False,
        timestamps: Tensor | Sequence[Tensor] | None = None,
    ) -> VideoTokens:
        """Tokens of a dense grid, without a copy.

        Args:
            grid: (T, H, W, d), a batch (B, T, H, W, d), or a sequence of (T, H, W, d) of any sizes (joined by one
                copy).
            mask: the same shape without d, bool, True where a token exists; the rest is left out.
            newline: the last column holds one newline token per row, as LLaVA-Video lays its tokens out: W − 1
                columns of tokens and one of separators.
            timestamps: (T,) seconds of the frames, or a sequence of them.
        """
        videos = _as_videos(grid, 4, "grid must be (T, H, W, d), (B, T, H, W, d) or a sequence of (T, H, W, d)")
        masks = None if mask is None else _as_videos(mask, 3, "mask must have the grid's shape without d")
        times = None if timestamps is None else ([timestamps] if isinstance(timestamps, Tensor) else list(timestamps))
        parts = []
        if masks is not None and len(masks) != len(videos):
            raise StgraphError(f"mask covers {len(masks)} videos, the grid {len(videos)}")
        for index, x in enumerate(videos):
            shape = tuple(x.shape[:3])
            if min(shape) < 1 or (newline and shape[2] < 2):
                raise StgraphError(f"video {index} has an empty grid {shape}")
            layout: SeparatorLayout = "row" if newline else "none"
            size = Grid(shape[0], shape[1], shape[2] - int(newline))
            part = cls.from_sequence(x.flatten(0, 2), size, separator_layout=layout)
            if masks is not None:
                keep = masks[index]
                if tuple(keep.shape) != shape or keep.dtype != torch.bool:
                    raise StgraphError(
                        f"mask of video {index} must be bool {shape}, got {tuple(keep.shape)} {keep.dtype}"
                    )
                part = part.take(keep.reshape(-1).nonzero()[:, 0])
            parts.append(part)
        if len(parts) > 1 and isinstance(grid, Tensor) and masks is None:  # a batch in one tensor: view it whole
            joined = cls.cat([p.with_features(p.features[:, :1]) for p in parts])
            joined = joined.with_features(grid.flatten(0, 3))
        else:
            joined = cls.cat(parts)
        if times is None:
            return joined
        _check_timestamps(times, joined.grids)
        return joined._derive(timestamps=tuple(t.double() for t in times))

    @classmethod
    def from_sequence(
        cls, features: Tensor, grid: Grid | tuple[int, int, int], *, separator_layout: SeparatorLayout = "none"
    ) -> VideoTokens:
        """Tokens of one video as the LLM sees them, (N, d) in raster order, without a copy.

        Args:
            features: (N, d).
            grid: (T, H, W) of the visual tokens, separators not counted.
            separator_layout: where newline tokens lie: ``"none"``; ``"row"``, one after each row (LLaVA-Video);
                ``"frame"``, one after each frame; ``"frame_start"``, one before each frame (the [CLS] tokens of
                Video-LLaVA); ``"trailing"``, one after the video (LLaVA-OneVision).

        Raises:
            StgraphError: N is not what the grid and the separators add up to.
        """
        check_choice("separator_layout", separator_layout, get_args(SeparatorLayout))
        grid = Grid(*grid)
        frames, height, width = grid
        if min(grid) < 1:
            raise StgraphError(f"the grid is {tuple(grid)}; frames, height and width must be at least 1")
        count = separator_count(grid, separator_layout)
        if features.ndim != 2 or features.shape[0] != grid.size + count:
            raise StgraphError(
                f"a grid of {frames} × {height} × {width} tokens"
                + (f" and {count} separators" if count else "")
                + f" needs {grid.size + count} rows of features, got {tuple(features.shape)}"
            )
        device = features.device
        columns = width + (separator_layout == "row")
        axes = [torch.arange(n, device=device) for n in (frames, height, columns)]
        coords = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
        if separator_layout in ("frame", "frame_start"):
            row = height if separator_layout == "frame" else -1
            places = torch.stack([axes[0], torch.full_like(axes[0], row), torch.zeros_like(axes[0])], -1)[:, None]
            area = coords.view(frames, -1, 3)
            coords = torch.cat([area, places] if row > 0 else [places, area], 1).reshape(-1, 3)
        elif separator_layout == "trailing":
            coords = torch.cat([coords, torch.tensor([[frames - 1, height, 0]], device=device)])
        separator = (coords[:, 2] == width) | (coords[:, 1] == height) | (coords[:, 1] < 0)
        batch = torch.zeros(len(coords), dtype=torch.int64, device=device)
        return cls._trusted(features, coords, batch, separator, (grid,))

    @classmethod
    def cat(cls, parts: Sequence[VideoTokens]) -> VideoTokens:
        """Several token sets as one batch (one copy of the features when there is more than one)."""
        if not parts:
            raise StgraphError("VideoTokens.cat needs at least one part")
        if len(parts) == 1:
            return parts[0]
        if len({(p.features.shape[1], p.features.dtype, p.device) for p in parts}) > 1:
            raise StgraphError("videos of one batch must share the feature size, dtype and device")
        offsets = itertools.accumulate((p.num_videos for p in parts[:-1]), initial=0)
        known = all(p.timestamps is not None for p in parts)
        return cls._trusted(
            torch.cat([p.features for p in parts]),
            torch.cat([p.coords for p in parts]),
            torch.cat([p.batch + offset for p, offset in zip(parts, offsets, strict=True)]),
            torch.cat([p.separator for p in parts]),
            tuple(g for p in parts for g in p.grids),
            tuple(t for p in parts for t in p.timestamps or ()) if known else None,
        )

    @classmethod
    def _trusted(
        cls,
        features: Tensor,
        coords: Tensor,
        batch: Tensor,
        separator: Tensor,
        grids: tuple[Grid, ...],
        timestamps: tuple[Tensor, ...] | None = None,
    ) -> VideoTokens:
        """Tokens in an order that is known to be right, so only the features are checked."""
        _check_features(features)
        made = object.__new__(cls)
        values = (features, coords, batch, separator, grids, timestamps)
        for field, value in zip(fields(cls), values, strict=True):
            object.__setattr__(made, field.name, value)
        return made

    def _derive(self, **changes: Any) -> VideoTokens:
        return self._trusted(**{field.name: getattr(self, field.name) for field in fields(self)} | changes)

    # -- views ----------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self.features.shape[0]

    def __repr__(self) -> str:
        grids = ", ".join("×".join(map(str, g)) for g in self.grids[:4]) + (", …" if len(self.grids) > 4 else "")
        dtype = str(self.features.dtype).removeprefix("torch.")
        size = f"{len(self)} tokens × {self.features.shape[1]} {dtype}"
        return f"VideoTokens({size}, grids {grids}, {self.num_separators} separators)"

    def _repr_html_(self) -> str:
        return str(above("tokens_card")(self))

    @property
    def num_videos(self) -> int:
        """Number of videos in the batch."""
        return len(self.grids)

    @property
    def num_separators(self) -> int:
        """Number of newline tokens."""
        return int(self.separator.sum())

    @property
    def device(self) -> torch.device:
        """Device of the features."""
        return self.features.device

    @property
    def offsets(self) -> list[int]:
        """First token of every video, and N: ``num_videos + 1`` numbers."""
        edges = torch.arange(self.num_videos + 1, device=self.device)
        return torch.searchsorted(self.batch, edges).tolist()

    def with_features(self, features: Tensor) -> VideoTokens:
        """The same tokens with other features (N, d).

        Raises:
            StgraphError: another number of rows, or a dtype that features cannot have.
        """
        if len(features) != len(self):
            raise StgraphError(f"features must hold a row for each of {len(self)} tokens, got {tuple(features.shape)}")
        return self._derive(features=features)

    def take(self, index: Tensor) -> VideoTokens:
        """The tokens at ``index`` (ascending int64), of the same videos: a copy of these rows.

        Raises:
            StgraphError: an index that does not ascend, or that names no token.
        """
        if index.ndim != 1 or index.dtype != torch.int64 or bool((index[1:] <= index[:-1]).any()):
            raise StgraphError("take needs the numbers of tokens in ascending order, without repeats, in int64")
        if len(index) and (int(index[0]) < 0 or int(index[-1]) >= len(self)):
            raise StgraphError(f"take needs numbers of tokens from 0 to {len(self) - 1}, got up to {int(index[-1])}")
        return self._derive(
            features=self.features[index],
            coords=self.coords[index],
            batch=self.batch[index],
            separator=self.separator[index],
        )

    def video(self, index: int) -> VideoTokens:
        """One video of the batch, as views."""
        offsets = self.offsets
        rows = slice(offsets[index], offsets[index + 1])
        return VideoTokens._trusted(
            self.features[rows],
            self.coords[rows],
            self.batch[rows] - index,
            self.separator[rows],
            (self.grids[index],),
            None if self.timestamps is None else (self.timestamps[index],),
        )

    def lattice(self, index: int, *, with_separators: bool = False) -> Tensor | None:
        """(T, H, W, d) view of one video without its separators, or None when grid positions are missing.

        With ``with_separators`` a newline column counts as a column of the grid.
        """
        frames, height, width = self.grids[index]
        offsets = self.offsets
        rows = slice(offsets[index], offsets[index + 1])
        x, coords, separators = self.features[rows], self.coords[rows], int(self.separator[rows].sum())
        area = height * width
        if len(x) - separators != frames * area:
            return None
        if separators == frames * height and bool((coords[width :: width + 1, 2] == width).all()):
            view = x.view(frames, height, width + 1, -1)
            return view if with_separators else view[:, :, :width]
        if with_separators and separators:
            return None
        if separators == frames and bool((coords[area :: area + 1, 1] == height).all()):
            return x.view(frames, area + 1, -1)[:, :area].view(frames, height, width, -1)
        if separators == frames and bool((coords[:: area + 1, 1] < 0).all()):
            return x.view(frames, area + 1, -1)[:, 1:].view(frames, height, width, -1)
        if not bool(self.separator[rows][: frames * area].any()):
            return x[: frames * area].view(frames, height, width, -1)
        return None


def separator_count(grid: Grid, layout: SeparatorLayout) -> int:
    """How many separators a layout adds to a grid."""
    frames, height, _ = grid
    return {"none": 0, "row": frames * height, "frame": frames, "frame_start": frames, "trailing": 1}[layout]


def raster_keys(coords: Tensor, batch: Tensor | None = None, shift: Sequence[int] = (0, 0, 0)) -> tuple[Tensor, Tensor]:
    """Numbers for places in space and time that ascend in raster order, and no two places have the same.

    That holds for places on the border of a grid too, where separators are, and for what lies ``shift`` away from any
    of them, inside the grid or not.

    Args:
        coords: (N, 3) int64 (frame, row, column), any numbers, also negative.
        batch: (N,) int64 videos, or None where there is only one.
        shift: (frames, rows, columns).

    Returns:
        (N,) int64 numbers of the places, and (N,) int64 of the places ``shift`` away from them.
    """
    if not len(coords):
        return coords.new_empty(0), coords.new_empty(0)
    step = torch.tensor(tuple(shift), device=coords.device)
    room = step.abs()
    low, high = coords.amin(0) - room, coords.amax(0) + room
    _, height, width = size = high - low + 1
    scale = torch.stack([height * width, width, torch.ones_like(width)])
    key = ((coords - low) * scale).sum(1)
    if batch is not None:
        key += batch * size.prod()
    return key, key + (step * scale).sum()


def _check_features(features: Tensor) -> None:
    if features.ndim != 2 or features.dtype not in FEATURE_DTYPES or features.shape[1] == 0:
        raise StgraphError(
            "features must be (N, d) with d ≥ 1 in float32, float16 or bfloat16, got "
            f"{tuple(features.shape)} {str(features.dtype).removeprefix('torch.')}; convert with .float()"
        )


def _check_timestamps(timestamps: Sequence[Tensor], grids: Sequence[Grid]) -> None:
    if [len(t) for t in timestamps] != [g.frames for g in grids]:
        raise StgraphError("timestamps must hold one time in seconds for each frame of each video")


def _as_videos(value: Tensor | Sequence[Tensor], ndim: int, message: str) -> list[Tensor]:
    if isinstance(value, Tensor):
        videos = [value] if value.ndim == ndim else list(value) if value.ndim == ndim + 1 else []
    else:
        videos = list(value)
    if not videos or any(v.ndim != ndim for v in videos):
        shapes = tuple(value.shape) if isinstance(value, Tensor) else [tuple(v.shape) for v in videos]
        raise StgraphError(f"{message}, got {shapes}")
    return videos


def check_finite(norm: Tensor, coords: Tensor, batch: Tensor) -> None:
    """Raise :class:`StgraphError` naming the video and the frame of the first vertex whose norm is not finite."""
    finite = norm.isfinite()
    if not bool(finite.all()):
        bad = (~finite).nonzero()[:, 0]
        first = int(bad[0])
        raise StgraphError(
            f"features of video {int(batch[first])}, frame {int(coords[first, 0])} hold NaN or Inf "
            f"({len(bad)} token{'s' if len(bad) > 1 else ''} in all); correct the encoder's output before selecting"
        )
