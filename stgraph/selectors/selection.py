"""Selection: which tokens were kept, and why."""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import StgraphError, readable
from ..kernels import TIE_TOLERANCE, snap

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..tokens import VideoTokens
    from ..video import Video
    from ..viz.explorer import Explorer


class Verdict(enum.IntEnum):
    """What became of a token."""

    DROPPED = 0
    """Neither a representative nor an event."""
    REPRESENTATIVE = 1
    """Kept: among the most central tokens of its community."""
    EVENT = 2
    """Kept: it differs from its past."""
    BOTH = 3
    """Kept: a representative and an event."""
    FILLED = 4
    """Kept by its importance alone, because the candidates did not fill the budget or the method has none."""
    TRIMMED = 5
    """A candidate that was dropped to meet the budget."""
    SEPARATOR = 6
    """A newline token that was kept."""


KEPT = (Verdict.REPRESENTATIVE, Verdict.EVENT, Verdict.BOTH, Verdict.FILLED, Verdict.SEPARATOR)


def verdict_of(candidate: Tensor, keep: Tensor) -> Tensor:
    """What becomes of tokens: uint8 :class:`Verdict` codes.

    Args:
        candidate: uint8 bits, 1 = representative, 2 = event.
        keep: bool, of the same shape.
    """
    some, kept = (candidate > 0).to(torch.uint8), keep.to(torch.uint8)
    dropped, filled = some - some * kept, kept - some * kept
    return candidate * kept + int(Verdict.TRIMMED) * dropped + int(Verdict.FILLED) * filled


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
        margin: (N,) float32 importance minus that of the video's last kept token: how far a candidate is from the cut.
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

    def __len__(self) -> int:
        return len(self.indices)

    def __repr__(self) -> str:
        counts = ", ".join(f"{n} {name}" for name, n in self.counts.items() if n)
        return f"Selection({len(self)} of {len(self.verdict)} tokens: {counts})"

    def _repr_html_(self) -> str:
        from ..viz.cards import selection_card

        return selection_card(self)

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
        from ..viz.explorer import explore

        names = [str(s.method.get("name", "selection")) for s in (self, other) if s is not None]
        if len(set(names)) < len(names):
            names = ["this", "other"]
        chosen = {name: s for name, s in zip(names, (self, other), strict=False) if s is not None}
        return explore(video, self if other is None else chosen, tokens, video_index=video_index)

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
        from ..viz.scene import scene

        return scene(self, video, tokens, video_index=video_index).draw(kind, **options)

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
        if self.merge_target is not None and self.merge_weight is not None:
            values += [self.merge_target, snap(self.merge_weight).mul(1 / TIE_TOLERANCE).long()]
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
        target, weight = self.merge_target.to(x.device), self.merge_weight.to(x.device)
        merged = (target >= 0).nonzero()[:, 0]
        place = torch.searchsorted(self.indices.to(x.device), target[merged])

        def weighted(rows: Tensor, factor: Tensor) -> Tensor:
            wide = torch.promote_types(x.dtype, torch.float32)
            return rows.to(wide) * factor.to(wide).view(-1, *[1] * (x.ndim - 1))

        own = weighted(kept, weight[self.indices.to(x.device)])
        return own.index_add(0, place, weighted(x[merged], weight[merged])).to(x.dtype)

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
        per_token = {name: getattr(self, name)[rows] for name in self._TENSORS if name != "indices"}
        per_token |= {"community": community, "batch": per_token["batch"] - index}
        if self.merge_target is not None and self.merge_weight is not None:
            target = self.merge_target[rows]
            per_token |= {
                "merge_target": torch.where(target >= 0, target - start, target),
                "merge_weight": self.merge_weight[rows],
            }
        return replace(self, indices=inside, **per_token, budget=(self.budget[index],))

    def why(self, token: int) -> str:
        """Why a token was kept or dropped, in words.

        Raises:
            StgraphError: there is no such token.
        """
        n = len(self.verdict)
        if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < n:
            raise StgraphError(f"token must be a whole number from 0 to {n - 1}, got {token!r}")
        t, y, x = self.coords[token].tolist()
        verdict = Verdict(int(self.verdict[token]))
        many = f"video {int(self.batch[token])}, " if len(self.budget) > 1 else ""
        where = f"Token {token} ({many}frame {t}, row {y}, column {x}) was {'kept' if verdict in KEPT else 'dropped'}: "
        community = int(self.community[token])
        facts = []
        if self.merge_target is not None and int(self.merge_target[token]) >= 0:
            share = f"with weight {float(self.merge_weight[token]):.3g}" if self.merge_weight is not None else ""
            facts.append(f"it was merged into token {int(self.merge_target[token])} {share}".rstrip())
        elif self.merge_target is not None and verdict in KEPT:
            taken = int((self.merge_target == token).sum())
            facts.append(f"it takes in {taken} other token{'s' if taken != 1 else ''}")
        if community >= 0:
            facts.append(self._standing(token, community))
        if verdict is not Verdict.SEPARATOR and bool(self.difference.any()):
            facts.append(f"it differs from its past by {float(self.difference[token]):.3f}")
        ranks_all = not bool(self.candidate.any())  # else importance decides among candidates only
        if verdict is not Verdict.SEPARATOR and (ranks_all or verdict is not Verdict.DROPPED):
            facts.append(f"its importance is {float(self.importance[token]):.4g}, {self._distance(token)}")
        reasons = _REASONS | _RANKING_REASONS if ranks_all else _REASONS
        return where + reasons[verdict] + ("; " + ", ".join(facts) if facts else "") + "."

    def _standing(self, token: int, community: int) -> str:
        members = (self.community == community).nonzero()[:, 0]
        if len(members) == 1:
            return "it is a community of its own"
        centrality, own = snap(self.centrality[members]), snap(self.centrality[token])
        place = 1 + int(((centrality > own) | ((centrality == own) & (members < token))).sum())
        stay = int((self.candidate[members] & 1).sum())
        return (
            f"its community {community} has {len(members)} tokens, of which the {stay} most central represent it, and "
            f"it is number {place} with a centrality of {float(self.centrality[token]):.3f}"
        )

    def _distance(self, token: int) -> str:
        margin = float(self.margin[token])
        return f"{abs(margin):.3g} {'above' if margin > 0 else 'below'} the cut" if margin else "at the cut"

    # -- files ----------------------------------------------------------------------------------------------------

    _TENSORS = (
        "indices",
        "verdict",
        "candidate",
        "community",
        "centrality",
        "difference",
        "importance",
        "margin",
        "coords",
        "batch",
    )
    _MERGE = ("merge_target", "merge_weight")

    def save(self, folder: str | Path, extra: dict[str, Any] | None = None) -> None:
        """Write ``selection.safetensors`` (all tensors) and ``selection.json`` (the rest, and ``extra``) into
        ``folder``.
        """
        from safetensors.torch import save

        folder = Path(folder)
        # Copies, because the format refuses tensors that share memory, as zeros of two absent scores may.
        names = self._TENSORS + (self._MERGE if self.merges else ())
        data = save({name: getattr(self, name).cpu().clone() for name in names})
        # Through Python's own file, so that a full disk is an OSError like any other.
        (folder / "selection.safetensors").write_bytes(data)
        record = {
            "digest": self.digest,
            "tokens": len(self.verdict),
            "kept": len(self),
            "budget": list(self.budget),
            "counts": self.counts,
            "method": self.method,
            "seconds": self.seconds,
            "notes": list(self.notes),
        }
        record["checksum"] = _checksum(data, record)
        (folder / "selection.json").write_text(
            json.dumps(record | (extra or {}), indent=2, ensure_ascii=False) + "\n", "utf-8"
        )

    @classmethod
    def load(cls, folder: str | Path) -> Selection:
        """The selection that :meth:`save` wrote.

        Raises:
            StgraphError: the folder holds no selection, or one that is damaged or was changed: the checksum covers all
                that explanations rest on, and all values must fit together.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        folder = Path(folder)
        name = readable(folder)
        try:
            data = (folder / "selection.safetensors").read_bytes()
            record = json.loads((folder / "selection.json").read_text("utf-8"))
            if record["checksum"] != _checksum(data, record):
                raise StgraphError(f"the selection in {name} was changed after it was written; run compress again")
            tensors = load(data)
            names = cls._TENSORS + (cls._MERGE if "merge_target" in tensors else ())
            selection = cls(
                **{each: tensors[each] for each in names},
                budget=tuple(record["budget"]),
                method=dict(record["method"]),
                seconds=dict(record["seconds"]),
                notes=tuple(record["notes"]),
            )
            selection.check()
            if selection.digest != record["digest"]:
                raise StgraphError("its digest is another")
        except (FileNotFoundError, NotADirectoryError) as error:
            raise StgraphError(f"{name} holds no selection; give the --output folder of a compress run") from error
        except StgraphError:
            raise
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise StgraphError(f"the selection in {name} is damaged ({reason}); run compress again") from error
        return selection

    def check(self) -> None:
        """Raise :class:`StgraphError` unless all values fit together, as they do in what a selector returns."""
        n = len(self.verdict)
        sizes: dict[str | int, int | str] = {"N": n, "K": len(self.indices)}
        for name, (shape, dtype) in _LAYOUT.items():
            value = getattr(self, name)
            if value is None:
                continue
            wanted = tuple(sizes.get(size, size) for size in shape)
            if not isinstance(value, Tensor) or tuple(value.shape) != wanted or value.dtype != dtype:
                raise StgraphError(f"{name} of a selection must be {wanted} {dtype}, got {_described(value)}")
            if dtype.is_floating_point and not bool(value.isfinite().all()):
                raise StgraphError(f"{name} of a selection must be finite")
        kept = torch.isin(self.verdict, torch.tensor(KEPT, dtype=torch.uint8, device=self.verdict.device))
        candidate = self.candidate
        facts = {
            "verdicts are codes from 0 to 6": bool((self.verdict <= max(Verdict)).all()),
            "candidates are bits from 0 to 3": bool((candidate <= 3).all()),
            "indices are the kept tokens in ascending order": torch.equal(self.indices, kept.nonzero()[:, 0]),
            "representatives, events and trimmed tokens were candidates": bool(
                torch.where(
                    (self.verdict >= Verdict.REPRESENTATIVE) & (self.verdict <= Verdict.BOTH),
                    candidate == self.verdict,
                    torch.where(self.verdict == Verdict.TRIMMED, candidate > 0, True),
                ).all()
            ),
            "communities are numbers from -1 up": bool((self.community >= -1).all()),
            "videos are numbered in order from 0": self._videos_are_numbered(),
            "budgets are whole numbers": all(isinstance(b, int) and not isinstance(b, bool) for b in self.budget),
            "merging has targets and weights": (self.merge_target is None) == (self.merge_weight is None),
        }
        if self.merge_target is not None and n:
            target = self.merge_target
            inside = (target >= -1) & (target < n)
            facts["tokens are merged into kept ones"] = bool(
                (inside & ((target < 0) | kept[target.clamp(0, n - 1)])).all()
            )
        for fact, holds in facts.items():
            if not holds:
                raise StgraphError(f"the values of a selection do not fit together: it must hold that {fact}")

    def _videos_are_numbered(self) -> bool:
        batch = self.batch
        return not len(batch) or bool(
            (batch[0] >= 0) & (batch[-1] < max(len(self.budget), 1)) & (batch.diff() >= 0).all()
        )


_LAYOUT: dict[str, tuple[tuple[str | int, ...], torch.dtype]] = {
    "indices": (("K",), torch.int64),
    "verdict": (("N",), torch.uint8),
    "candidate": (("N",), torch.uint8),
    "community": (("N",), torch.int64),
    "centrality": (("N",), torch.float32),
    "difference": (("N",), torch.float32),
    "importance": (("N",), torch.float32),
    "margin": (("N",), torch.float32),
    "coords": (("N", 3), torch.int64),
    "batch": (("N",), torch.int64),
    "merge_target": (("N",), torch.int64),
    "merge_weight": (("N",), torch.float32),
}
"""Shape and dtype of every tensor of a selection."""


def _described(value: object) -> str:
    return f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__


def _checksum(data: bytes, record: Mapping[str, Any]) -> str:
    """Of a saved selection: its tensors, and what of its record explanations rest on."""
    plain = json.dumps([record[key] for key in ("budget", "method", "notes", "counts")], sort_keys=True)
    return hashlib.sha256(data + plain.encode()).hexdigest()


_REASONS = {
    Verdict.DROPPED: "it is neither among the most central of its community nor an event, so it is no candidate",
    Verdict.REPRESENTATIVE: "it is among the most central tokens of its community",
    Verdict.EVENT: "it is an event",
    Verdict.BOTH: "it is among the most central tokens of its community and an event",
    Verdict.FILLED: "no candidate, but its importance won it a free place in the budget",
    Verdict.TRIMMED: "it was a candidate, but more important candidates filled the budget",
    Verdict.SEPARATOR: "it is the separator of a part of the video that keeps many tokens",
}

_RANKING_REASONS = {
    Verdict.DROPPED: "others came before it in the ranking of the method, which has no candidates",
    Verdict.FILLED: "it is among the first in the ranking of the method, which has no candidates",
}
