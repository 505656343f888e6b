"""Selection: which tokens were kept, and why."""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import StgraphError, readable
from ..kernels import TIE_TOLERANCE, snap
from ..late_binding import above

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


_BLOCK = 1 << 22
"""Numbers that a merge gathers at a time: 16 MB of float32."""


class Blend(NamedTuple):
    """Kept tokens as weighted sums of any tokens: a token may go into several, and a kept one into others.

    A kept token that nothing goes into stays as it was.

    Attributes:
        into: (m,) int64 the kept token.
        source: (m,) int64 the token that goes into it; its own part in the sum is an entry like any other.
        weight: (m,) float32 the factor.
    """

    into: Tensor
    source: Tensor
    weight: Tensor

    def sums(self, heads: Tensor, x: Tensor) -> Tensor:
        """(h, ...) the sums of the sorted ``heads`` (h,), of rows of ``x`` (N, ...), in float32 or wider."""
        wide = torch.promote_types(x.dtype, torch.float32)
        out = torch.zeros(len(heads), *x.shape[1:], dtype=wide, device=x.device)
        place = torch.searchsorted(heads, self.into.to(x.device))
        step = max(1, _BLOCK // max(1, x[:1].numel()))
        parts = (place, self.source.to(x.device), self.weight.to(x.device))
        for row, source, weight in zip(*(part.split(step) for part in parts), strict=True):
            rows = x[source].to(wide) * weight.to(wide).view(-1, *[1] * (x.ndim - 1))
            out = out.index_add(0, row, rows)
        return out

    def main_targets(self, keep: Tensor) -> tuple[Tensor, Tensor]:
        """Where most of each token goes.

        Args:
            keep: (N,) bool, the kept tokens.

        Returns:
            (N,) int64 the kept token that takes in most of a dropped one, of equal ones the first, −1 for all others;
            and (N,) float32 that factor, for a kept token its factor in itself.
        """
        order = torch.sort(self.into, stable=True).indices
        order = order[torch.sort(self.weight[order], stable=True, descending=True).indices]
        order = order[torch.sort(self.source[order], stable=True).indices]
        source = self.source[order]
        begins = torch.ones_like(source, dtype=torch.bool)
        begins[1:] = source[1:] != source[:-1]
        best = order[begins & ~keep[source]]
        target = torch.full(keep.shape, -1, dtype=torch.int64, device=keep.device)
        target[self.source[best]] = self.into[best]
        weight = keep.to(torch.float32)
        weight[self.source[best]] = self.weight[best]
        weight[self.into] = 0.0
        own = self.into == self.source
        weight[self.into[own]] = self.weight[own]
        return target, weight

    def __eq__(self, other: object) -> bool:
        """Whether all entries are the same, in the same order."""
        if not isinstance(other, Blend):
            return NotImplemented
        return all(torch.equal(a, b) for a, b in zip(self, other, strict=True))

    @classmethod
    def empty(cls, device: torch.device) -> Blend:
        """Nothing goes anywhere."""
        none = torch.empty(0, dtype=torch.int64, device=device)
        return cls(none, none, none.to(torch.float32))

    @classmethod
    def cat(cls, parts: Sequence[Blend]) -> Blend:
        """One or several as one, sorted, the entries of the same two tokens added up.

        Every kept token has an entry of its own, which may be 0.
        """
        into, source, weight = (torch.cat(column) for column in zip(*parts, strict=True))
        if not len(into):
            return cls(into, source, weight)
        heads = into.unique()
        into, source = torch.cat([into, heads]), torch.cat([source, heads])
        weight = torch.cat([weight, torch.zeros_like(heads, dtype=weight.dtype)])
        width = int(torch.maximum(into.max(), source.max())) + 1
        key, place = (into * width + source).unique(return_inverse=True)
        total = torch.zeros(len(key), dtype=torch.float64, device=key.device).index_add_(0, place, weight.double())
        return cls(key // width, key % width, total.to(torch.float32))

    def changes(self) -> Blend:
        """The same as :meth:`cat` has it, without the kept tokens that stay as they were."""
        into, source, weight = Blend.cat([self])
        if not len(into):
            return self
        changed = (torch.bincount(into)[into] > 1) | (weight != 1)
        return Blend(into[changed], source[changed], weight[changed])


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
        per_token: dict[str, Any] = {name: getattr(self, name)[rows] for name in self._TENSORS if name != "indices"}
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
        tensors = {name: getattr(self, name).cpu().clone() for name in names}
        if self.blend is not None:
            tensors |= {f"blend_{name}": part.cpu().clone() for name, part in self.blend._asdict().items()}
        data = save(tensors)
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
        record |= extra or {}  # whose notes are those of the video too
        record["checksum"] = _checksum(data, record)
        (folder / "selection.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", "utf-8")

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
            blend = None
            if "blend_into" in tensors:
                blend = Blend(*(tensors[f"blend_{part}"] for part in Blend._fields))
            selection = cls(
                **{each: tensors[each] for each in names},
                budget=tuple(record["budget"]),
                method=dict(record["method"]),
                seconds=dict(record["seconds"]),
                notes=tuple(record["notes"]),
                blend=blend,
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
        if self.blend is not None:
            into, source, weight = self.blend
            facts["each sum is of tokens that are there, into a kept one, with a finite weight"] = bool(
                len(into) == len(source) == len(weight)
                and not into.is_floating_point()
                and ((torch.minimum(into, source) >= 0) & (torch.maximum(into, source) < n)).all()
                and kept[into].all()
                and weight.isfinite().all()
            )
        if self.blend is not None:
            into, source, weight = self.blend
            ends = torch.stack([into, source]) if into.shape == source.shape == weight.shape else None
            facts["sums are of the tokens that there are, into kept ones"] = (
                ends is not None
                and ends.ndim == 2
                and ends.dtype == torch.int64
                and weight.is_floating_point()
                and bool(weight.isfinite().all())
                and bool(((ends >= 0) & (ends < n)).all())
                and bool(kept[into].all())
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


def blend_of(keep: Tensor, target: Tensor, weight: Tensor) -> Blend:
    """The sums by which each dropped token goes into one kept one.

    Args:
        keep: (n,) bool, the kept tokens.
        target: (n,) int64, the kept token that a dropped one goes into, −1 for all others.
        weight: (n,) float32 factor of each token in its sum.
    """
    index = torch.arange(len(keep), device=keep.device)
    head = torch.where(target >= 0, target, torch.where(keep, index, -1))
    changed = keep & (weight != 1)
    changed[target[target >= 0]] = True
    source = ((head >= 0) & changed[head.clamp(min=0)]).nonzero()[:, 0]
    return Blend(head[source], source, weight[source])


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
