"""A stored selection: its two files, and the checks that its values fit together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import StgraphError, readable
from .blend import Blend
from .verdict import KEPT, Verdict

if TYPE_CHECKING:
    from .selection import Selection

TENSORS = (
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
MERGE = ("merge_target", "merge_weight")


def save(selection: Selection, folder: str | Path, extra: dict[str, Any] | None = None) -> None:
    """Write ``selection.safetensors`` (all tensors) and ``selection.json`` (the rest, and ``extra``) into
    ``folder``.
    """
    from safetensors.torch import save as packed

    folder = Path(folder)
    # Copies, because the format refuses tensors that share memory, as zeros of two absent scores may.
    names = TENSORS + (MERGE if selection.merges else ())
    tensors = {name: getattr(selection, name).cpu().clone() for name in names}
    if selection.blend is not None:
        tensors |= {f"blend_{name}": part.cpu().clone() for name, part in selection.blend._asdict().items()}
    data = packed(tensors)
    # Through Python's own file, so that a full disk is an OSError like any other.
    (folder / "selection.safetensors").write_bytes(data)
    record = {
        "digest": selection.digest,
        "tokens": len(selection.verdict),
        "kept": len(selection),
        "budget": list(selection.budget),
        "counts": selection.counts,
        "method": selection.method,
        "seconds": selection.seconds,
        "notes": list(selection.notes),
    }
    record |= extra or {}  # whose notes are those of the video too
    record["checksum"] = _checksum(data, record)
    (folder / "selection.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", "utf-8")


def load(make: Callable[..., Selection], folder: str | Path) -> Selection:
    """The selection that :meth:`save` wrote.

    Raises:
        StgraphError: the folder holds no selection, or one that is damaged or was changed: the checksum covers all
            that explanations rest on, and all values must fit together.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as unpacked

    folder = Path(folder)
    name = readable(folder)
    try:
        data = (folder / "selection.safetensors").read_bytes()
        record = json.loads((folder / "selection.json").read_text("utf-8"))
        if record["checksum"] != _checksum(data, record):
            raise StgraphError(f"the selection in {name} was changed after it was written; run compress again")
        tensors = unpacked(data)
        names = TENSORS + (MERGE if "merge_target" in tensors else ())
        blend = None
        if "blend_into" in tensors:
            blend = Blend(*(tensors[f"blend_{part}"] for part in Blend._fields))
        selection = make(
            **{each: tensors[each] for each in names},
            budget=tuple(record["budget"]),
            method=dict(record["method"]),
            seconds=dict(record["seconds"]),
            notes=tuple(record["notes"]),
            blend=blend,
        )
        check(selection)
        if selection.digest != record["digest"]:
            raise StgraphError(f"the selection in {name} does not match its digest; run compress again")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StgraphError(f"{name} holds no selection; give the --output folder of a compress run") from error
    except StgraphError:
        raise
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise StgraphError(f"the selection in {name} is damaged ({reason}); run compress again") from error
    return selection


def check(selection: Selection) -> None:
    """Raise :class:`StgraphError` unless all values fit together, as they do in what a selector returns."""
    n = len(selection.verdict)
    sizes: dict[str | int, int | str] = {"N": n, "K": len(selection.indices)}
    for name, (shape, dtype) in _LAYOUT.items():
        value = getattr(selection, name)
        if value is None:
            continue
        wanted = tuple(sizes.get(size, size) for size in shape)
        if not isinstance(value, Tensor) or tuple(value.shape) != wanted or value.dtype != dtype:
            raise StgraphError(f"{name} of a selection must be {wanted} {dtype}, got {_described(value)}")
        if dtype.is_floating_point and not bool(value.isfinite().all()):
            raise StgraphError(f"{name} of a selection must be finite")
    kept = torch.isin(selection.verdict, torch.tensor(KEPT, dtype=torch.uint8, device=selection.verdict.device))
    candidate = selection.candidate
    facts = {
        "verdicts are codes from 0 to 6": bool((selection.verdict <= max(Verdict)).all()),
        "candidates are bits from 0 to 3": bool((candidate <= 3).all()),
        "indices are the kept tokens in ascending order": torch.equal(selection.indices, kept.nonzero()[:, 0]),
        "representatives, events and trimmed tokens were candidates": bool(
            torch.where(
                (selection.verdict >= Verdict.REPRESENTATIVE) & (selection.verdict <= Verdict.BOTH),
                candidate == selection.verdict,
                torch.where(selection.verdict == Verdict.TRIMMED, candidate > 0, True),
            ).all()
        ),
        "communities are numbers from -1 up": bool((selection.community >= -1).all()),
        "videos are numbered in order from 0": _videos_are_numbered(selection),
        "budgets are whole numbers": all(isinstance(b, int) and not isinstance(b, bool) for b in selection.budget),
        "merging has targets and weights": (selection.merge_target is None) == (selection.merge_weight is None),
    }
    if selection.merge_target is not None and n:
        target = selection.merge_target
        inside = (target >= -1) & (target < n)
        facts["tokens are merged into kept ones"] = bool((inside & ((target < 0) | kept[target.clamp(0, n - 1)])).all())
    if selection.blend is not None:
        into, source, weight = selection.blend
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
            raise StgraphError(f"the values of a selection contradict each other; expected: {fact}")


def _videos_are_numbered(selection: Selection) -> bool:
    batch = selection.batch
    return not len(batch) or bool(
        (batch[0] >= 0) & (batch[-1] < max(len(selection.budget), 1)) & (batch.diff() >= 0).all()
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
