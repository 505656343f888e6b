"""Which kernels do the work: chosen once for a process, or forced."""

from __future__ import annotations

import importlib.util
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Literal

import torch

from ..errors import StgraphError, check_choice
from . import reference

Name = Literal["auto", "fused", "reference", "triton"]

Active = Literal["fused", "reference", "triton"]

NAMES = ("auto", "fused", "reference", "triton")

_CHOICE = threading.Lock()
_forced: str | None = None
_automatic: Literal["fused", "reference"] | None = None


def use(name: Name) -> None:
    """Force the kernels of this process from now on; :func:`using` does so inside a block.

    ``"auto"`` leaves the choice to stgraph. The environment variable ``STGRAPH_KERNELS`` holds the name to start with,
    ``"auto"`` when it is not set.

    Raises:
        StgraphError: no such kernels, or fused ones that cannot be had here; says why.
    """
    global _forced
    check_choice("kernels", name, NAMES)
    if name == "fused":
        _require_fused()
    _forced = name


@contextmanager
def using(name: Name) -> Iterator[None]:
    """Force the kernels inside a ``with`` block; raises as :func:`use`."""
    global _forced
    before = _forced
    use(name)
    try:
        yield
    finally:
        _forced = before


def active(device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Active:
    """The kernels that features of this device and dtype are given to.

    ``"auto"`` means those in Triton on a CUDA device where Triton is installed, and the fused ones on a CPU. Where
    these were not compiled when stgraph was installed, the reference kernels serve, and one warning says why. Within
    one process the kernels never change by themselves, so the same call gives the same result.

    Raises:
        StgraphError: fused or Triton kernels are forced and cannot be had for these features.
    """
    from .fused import DTYPES

    kind = torch.device(device).type
    requested = _requested()
    on_gpu = dtype in DTYPES and kind in (("cuda", "cpu") if os.environ.get("TRITON_INTERPRET") == "1" else ("cuda",))
    on_gpu = on_gpu and importlib.util.find_spec("triton") is not None
    if requested == "triton" and not on_gpu:
        raise StgraphError(
            "the Triton kernels take float32, float16 and bfloat16 on a CUDA device where Triton is installed, got "
            f"{dtype} on {device}; use the kernels auto, or set TRITON_INTERPRET=1 to run them on a CPU, very slowly"
        )
    if on_gpu and (requested == "triton" or (requested == "auto" and kind == "cuda")):
        return "triton"
    fits = kind == "cpu" and dtype in DTYPES
    if requested == "reference" or (requested == "auto" and not fits):
        return "reference"
    if not fits:
        raise StgraphError(
            f"the fused kernels take float32, float16 and bfloat16 on a CPU, got {dtype} on {device}; "
            "use the kernels auto or reference"
        )
    if requested == "fused":
        _require_fused()
        return "fused"
    return _choose()


def kernels_for(x: torch.Tensor) -> ModuleType:
    """The module whose functions take features like ``x``."""
    return kernels_on(x.device, x.dtype)


def kernels_on(device: torch.device, dtype: torch.dtype = torch.float32) -> ModuleType:
    """The module whose functions take features of this dtype, and numbers made from them, on a device."""
    name = active(device, dtype)
    if name == "triton":
        from . import gpu

        return gpu
    if name == "fused":
        from . import fused

        return fused
    return reference


def direct_kernels(x: torch.Tensor) -> ModuleType | None:
    """The module that has what the paper's selection needs on a grid like ``x`` (..., d), or None."""
    module = kernels_for(x)
    return None if module is reference or x.stride(-1) != 1 or x.is_neg() else module


def _requested() -> str:
    if _forced is not None:
        return _forced
    name = os.environ.get("STGRAPH_KERNELS") or "auto"
    check_choice("STGRAPH_KERNELS", name, NAMES)
    return name


def _require_fused() -> None:
    from .library import UnavailableError, library

    try:
        library()
    except UnavailableError as error:
        raise StgraphError(f"the fused kernels cannot be used: {error}; use the reference kernels") from error


def _choose() -> Literal["fused", "reference"]:
    """What ``"auto"`` means on a CPU, settled by the first call."""
    global _automatic
    with _CHOICE:
        if _automatic is None:
            from .library import UnavailableError, library

            try:
                library()
                _automatic = "fused"
            except UnavailableError as error:
                _automatic = "reference"
                _warn(error)
    return _automatic


def _warn(error: Exception) -> None:
    warnings.warn(
        f"the fused kernels cannot be used, so the slower reference kernels are used: {error}; "
        "STGRAPH_KERNELS=reference silences this",
        RuntimeWarning,
        stacklevel=2,
    )
