"""Selection: which tokens were kept, and why."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import StgraphError
from ..kernels import TIE_TOLERANCE, snap
from ..late_binding import above
from . import stored
from .blend import Blend, blend_of
from .verdict import KEPT, Verdict, verdict_of
from .why import why

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..tokens import VideoTokens
    from ..video import Video
    from ..viz.explorer import Explorer

__all__ = ["KEPT", "Blend", "Selection", "Verdict", "blend_of", "verdict_of"]


@dataclass(frozen=True, eq=False)
class Selection:
    """The kept tokens of one or many videos, and for every token the reason.

    N tokens, K kept. Tokens that take no part in the graph (separators) have community −1 and scores 0.

    Attributes:
        indices: (K,) int64 kept tokens, ascending.
        verdict: (N,) uint8 :class:`Verdict` codes.
        candidate: (N,) uint8 bits before trimming: 1 = representative (T_rep), 2 = event (T_event).
        community: (N,) int64 community, −1 where the method has none.
        centrality: (N,) float32 mean similarity to the rest of the community.
        difference: (N,) float32 difference from the past.
        importance: (N,) float32 the score by which candidates were trimmed.
        margin: (N,) float32 importance minus that of the video's last kept token.
        coords: (N, 3) int64 (frame, row, column).
        batch: (N,) int64 video.
        budget: visual tokens kept in each video, ⌈retention · N⌉.
        method: name and parameters of the selector.
        seconds: time of each stage.
        notes: sentences that a user should know.
        merge_target: (N,) int64 the kept token that a dropped one was merged into, −1 for all others; None where the
            method does not merge.
        merge_weight: (N,) float32 factor of each token in the sum that its kept token becomes: a merged token's own,
            a kept token's own (1 where it stays as it was), 0 where a token is lost. None where the method does not
            merge.
        blend: the sums themselves, where a token goes into several kept ones or a kept one into others; the two above
            then only say where most of each goes. None where they say all.
    """

    indices: Tensor
    verdict: Tensor
    candidate: Tensor
    community: Tensor
    centrality: Tensor
    difference: Tensor
    importance: Tensor
    margin: Tensor
    coords: Tensor
    batch: Tensor
    budget: tuple[int, ...]
    method: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    merge_target: Tensor | None = None
    merge_weight: Tensor | None = None
    blend: Blend | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def __repr__(self) -> str:
        counts = ", ".join(f"{n} {name}" for name, n in self.counts.items() if n)
        return f"Selection({len(self)} of {len(self.verdict)} tokens: {counts})"

    def _repr_html_(self) -> str:
        return str(above("selection_card")(self))

    def show(
        self,
        video: Video | None = None,
        tokens: VideoTokens | None = None,
        *,
        other: Selection | None = None,
        video_index: int = 0,
    ) -> Explorer:
        """The explorer of this selection: turn the space-time graph, move τ_sim, ask a token why it was kept.

        In a notebook the result shows itself; ``.save("explorer.html")`` makes it a page that works offline.

        Args:
            video: T frames of the video, or None where there are only features.
            tokens: what was selected from; edges and the slider of τ_sim need it.
            other: another selection of the same tokens, to be compared with this one.
            video_index: which video of a batch.

        Raises:
            StgraphError: values that do not belong together.
        """
        names = [str(s.method.get("name", "selection")) for s in (self, other) if s is not None]
        if len(set(names)) < len(names):
            names = ["this", "other"]
        chosen = {name: s for name, s in zip(names, (self, other), strict=False) if s is not None}
        shown: Explorer = above("explore")(video, self if other is None else chosen, tokens, video_index=video_index)
        return shown

    def draw(
        self,
        kind: str,
        video: Video | None = None,
        tokens: VideoTokens | None = None,
        *,
        video_index: int = 0,
        **options: Any,
    ) -> Figure:
        """One picture of this selection as a matplotlib figure.

        Args:
            kind: a name of :data:`stgraph.viz.KINDS`: ``"river"``, ``"events"``, ``"filmstrip"`` and others.
            video: T frames; pictures on frames and times in seconds need it.
            tokens: what was selected from; pictures of the graph need it.
            video_index: which video of a batch.
            options: of the function behind the kind.

        Raises:
            StgraphError: no such kind, something that it needs is missing, or values that do not belong together.
        """
        figure: Figure = above("scene")(self, video, tokens, video_index=video_index).draw(kind, **options)
        return figure

    @cached_property
    def counts(self) -> dict[str, int]:
        """Tokens of each verdict, by its lower-case name."""
        numbers = torch.bincount(self.verdict.long(), minlength=len(Verdict)).tolist()
        return {verdict.name.lower(): numbers[verdict] for verdict in Verdict}

    @cached_property
    def mask(self) -> Tensor:
        """(N,) bool, True for kept tokens."""
        mask = torch.zeros(len(self.verdict), dtype=torch.bool, device=self.verdict.device)
        mask[self.indices] = True
        return mask

    @property
    def merges(self) -> bool:
        """Whether kept tokens take others in, so that :meth:`apply` changes features."""
        return self.merge_target is not None

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits that are equal exactly when the same tokens were kept for the same reasons, and the
        same merged into them.
        """
        state = hashlib.sha256()
        values = [self.coords, self.batch, self.verdict.long()]
        if self.merges:
            blend = self.sums().changes()
            values += [blend.into, blend.source, snap(blend.weight).mul(1 / TIE_TOLERANCE).long()]
        for value in values:
            state.update(np.ascontiguousarray(value.cpu().numpy().astype("<i8")).tobytes())
        return state.hexdigest()[:16]

    def apply(self, x: Tensor, *, merge: bool = True) -> Tensor:
        """The kept rows of any per-token tensor (N, ...): features, positions, timestamps.

        Where the method merges, a kept row of a floating-point tensor becomes the weighted sum of its own and of the
        rows merged into it, summed in float32 (float64 for float64) and returned in the dtype of ``x``. Integers are
        never merged.

        Args:
            x: (N, ...).
            merge: False for what must follow the kept token alone, such as floating-point positions, timestamps and
                scores.

        Raises:
            StgraphError: ``x`` does not have N rows.
        """
        if x.shape[0] != len(self.verdict):
            raise StgraphError(f"apply needs one row for each of {len(self.verdict)} tokens, got {tuple(x.shape)}")
        kept = x[self.indices.to(x.device)]
        if not (merge and x.is_floating_point()) or self.merge_target is None or self.merge_weight is None:
            return kept
        blend = self.sums()
        heads = blend.into.unique()
        places = torch.searchsorted(self.indices, heads).to(x.device)
        return kept.index_copy(0, places, blend.sums(heads.to(x.device), x).to(x.dtype))

    def sums(self) -> Blend:
        """What kept tokens become, those that stay as they were left out; empty where the method does not merge."""
        if self.merge_target is None or self.merge_weight is None:
            return Blend.empty(self.verdict.device)
        return self.blend if self.blend is not None else blend_of(self.mask, self.merge_target, self.merge_weight)

    def invert(self, y: Tensor, fill: float = 0) -> Tensor:
        """Rows of the kept tokens (K, ...) put back to their places among all N; the others get ``fill``.

        Raises:
            StgraphError: ``y`` does not have K rows.
        """
        if y.shape[0] != len(self):
            raise StgraphError(f"invert needs one row for each of {len(self)} kept tokens, got {tuple(y.shape)}")
        out = y.new_full((len(self.verdict), *y.shape[1:]), fill)
        out[self.indices.to(y.device)] = y
        return out

    def video(self, index: int) -> Selection:
        """The part of one video of the batch, as if it had been selected alone."""
        rows = (self.batch == index).nonzero()[:, 0]
        start = int(rows[0]) if len(rows) else 0
        inside = self.indices[self.batch[self.indices] == index] - start
        community = self.community[rows]
        if bool((community >= 0).any()):
            community = torch.where(community >= 0, community - community[community >= 0].min(), community)
        per_token: dict[str, Any] = {name: getattr(self, name)[rows] for name in stored.TENSORS if name != "indices"}
        per_token |= {"community": community, "batch": per_token["batch"] - index}
        if self.merge_target is not None and self.merge_weight is not None:
            target = self.merge_target[rows]
            per_token |= {
                "merge_target": torch.where(target >= 0, target - start, target),
                "merge_weight": self.merge_weight[rows],
            }
        if self.blend is not None:
            own = self.batch[self.blend.into] == index
            into, source, weight = (part[own] for part in self.blend)
            per_token["blend"] = Blend(into - start, source - start, weight)
        return replace(self, indices=inside, **per_token, budget=(self.budget[index],))

    def why(self, token: int) -> str:
        """Why a token was kept or dropped, in words.

        Raises:
            StgraphError: there is no such token.
        """
        return why(self, token)

    def save(self, folder: str | Path, extra: dict[str, Any] | None = None) -> None:
        """Write ``selection.safetensors`` (all tensors) and ``selection.json`` (the rest, and ``extra``) into
        ``folder``.
        """
        stored.save(self, folder, extra)

    @classmethod
    def load(cls, folder: str | Path) -> Selection:
        """The selection that :meth:`save` wrote.

        Raises:
            StgraphError: the folder holds no selection, or one that is damaged or was changed: the checksum covers all
                that explanations rest on, and all values must fit together.
        """
        return stored.load(cls, folder)

    def check(self) -> None:
        """Raise :class:`StgraphError` unless all values fit together, as they do in what a selector returns."""
        stored.check(self)
