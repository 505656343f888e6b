"""Selection: which tokens were kept, and why."""

from __future__ import annotations

import enum
import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import StgraphError


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

    def __len__(self) -> int:
        return len(self.indices)

    def __repr__(self) -> str:
        counts = ", ".join(f"{n} {name}" for name, n in self.counts.items() if n)
        return f"Selection({len(self)} of {len(self.verdict)} tokens: {counts})"

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

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits that are equal exactly when the same tokens were kept for the same reasons."""
        state = hashlib.sha256()
        for value in (self.coords, self.batch, self.verdict.long()):
            state.update(np.ascontiguousarray(value.cpu().numpy().astype("<i8")).tobytes())
        return state.hexdigest()[:16]

    def apply(self, x: Tensor) -> Tensor:
        """The kept rows of any per-token tensor (N, ...): features, positions, timestamps.

        Raises:
            StgraphError: ``x`` does not have N rows.
        """
        if x.shape[0] != len(self.verdict):
            raise StgraphError(f"apply needs one row for each of {len(self.verdict)} tokens, got {tuple(x.shape)}")
        return x[self.indices.to(x.device)]

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
        if community >= 0:
            size = int((self.community == community).sum())
            group = "it is a community of its own" if size == 1 else f"its community {community} has {size} tokens"
            facts.append(f"{group}, its centrality there is {float(self.centrality[token]):.3f}")
        if verdict is not Verdict.SEPARATOR:
            facts.append(f"it differs from its past by {float(self.difference[token]):.3f}")
        if verdict not in (Verdict.SEPARATOR, Verdict.DROPPED):  # importance decides among candidates only
            facts.append(f"its importance is {float(self.importance[token]):.4g}, {self._distance(token)}")
        return where + _REASONS[verdict] + ("; " + ", ".join(facts) if facts else "") + "."

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

    def save(self, folder: str | Path, extra: dict[str, Any] | None = None) -> None:
        """Write ``selection.safetensors`` (all tensors) and ``selection.json`` (the rest, and ``extra``) into
        ``folder``.
        """
        from safetensors.torch import save

        folder = Path(folder)
        # Copies, because the format refuses tensors that share memory, as zeros of two absent scores may.
        tensors = {name: getattr(self, name).cpu().clone() for name in self._TENSORS}
        # Through Python's own file, so that a full disk is an OSError like any other.
        (folder / "selection.safetensors").write_bytes(save(tensors))
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
        (folder / "selection.json").write_text(
            json.dumps(record | (extra or {}), indent=2, ensure_ascii=False) + "\n", "utf-8"
        )

    @classmethod
    def load(cls, folder: str | Path) -> Selection:
        """The selection that :meth:`save` wrote.

        Raises:
            StgraphError: the folder holds no selection, or a damaged one.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        folder = Path(folder)
        try:
            tensors = load_file(folder / "selection.safetensors")
            record = json.loads((folder / "selection.json").read_text("utf-8"))
            fields = {name: tensors[name] for name in cls._TENSORS}
            selection = cls(
                **fields,
                budget=tuple(record["budget"]),
                method=record["method"],
                seconds=record["seconds"],
                notes=tuple(record["notes"]),
            )
        except FileNotFoundError as error:
            raise StgraphError(f"{folder} holds no selection; give the --output folder of a compress run") from error
        except (SafetensorError, json.JSONDecodeError, KeyError, UnicodeDecodeError) as error:
            raise StgraphError(f"the selection in {folder} is damaged ({error}); run compress again") from error
        if selection.digest != record["digest"]:
            raise StgraphError(f"the selection in {folder} does not match its digest; run compress again")
        return selection


_REASONS = {
    Verdict.DROPPED: "it is neither among the most central of its community nor an event, so it is no candidate",
    Verdict.REPRESENTATIVE: "it is among the most central tokens of its community",
    Verdict.EVENT: "it is an event",
    Verdict.BOTH: "it is among the most central tokens of its community and an event",
    Verdict.FILLED: "no candidate, but its importance won it a free place in the budget",
    Verdict.TRIMMED: "it was a candidate, but more important candidates filled the budget",
    Verdict.SEPARATOR: "it is the separator of a part of the video that keeps many tokens",
}
