"""What is installed and usable."""

from __future__ import annotations

import importlib.util
import platform
from dataclasses import dataclass
from importlib import metadata

from ..optional import install_hint


@dataclass(frozen=True)
class Check:
    """One part and its state.

    Attributes:
        name: of the part.
        usable: whether it can be used.
        state: version, or what is missing and how to get it.
        purpose: what it is for.
        required: whether stgraph works without it.
    """

    name: str
    usable: bool
    state: str
    purpose: str
    required: bool = False


_PACKAGES = (
    ("torch", "torch", "tensors and kernels", None),
    ("scipy", "scipy", "connected components", None),
    ("av", "av", "reading and writing video", None),
    ("safetensors", "safetensors", "files of selections", None),
    ("matplotlib", "matplotlib", "charts of the report", None),
    ("transformers", "transformers", "vision towers (encoder=hf:…) and video LLMs", "models"),
    ("igraph", "igraph", "community detection", "graph"),
    ("leidenalg", "leidenalg", "Leiden with CPM and layers", "graph"),
    ("infomap", "infomap", "Infomap communities", "graph"),
    ("networkx", "networkx", "export to networkx", "graph"),
    ("torch-geometric", "torch_geometric", "export to PyTorch Geometric", "graph"),
    ("pylibcugraph", "pylibcugraph", "community detection on a GPU", "cugraph"),
)


def checks() -> list[Check]:
    """The state of every part, required ones first."""
    rows = [Check("python", True, platform.python_version(), "", True)]
    rows += [_package(*package) for package in _PACKAGES]
    rows.append(_codec())
    rows.append(_kernels())
    rows.append(_cuda())
    return rows


def _package(distribution: str, module: str, purpose: str, extra: str | None) -> Check:
    if importlib.util.find_spec(module) is None:
        return Check(distribution, False, f"missing: {install_hint(extra)}", purpose, extra is None)
    try:
        version = metadata.version(distribution)
    except metadata.PackageNotFoundError:
        version = "installed"
    return Check(distribution, True, version, purpose, extra is None)


def _codec() -> Check:
    purpose = "overlay videos and the sample clip"
    try:
        from av.codec import Codec

        name = Codec("h264", "w").name
    except Exception as error:  # any error: the reason why the library does not load is what is shown
        return Check("H.264 encoder", False, f"not available ({error})", purpose)
    return Check("H.264 encoder", True, name, purpose)


def _kernels() -> Check:
    purpose = "selection on the CPU close to the speed of memory"
    if importlib.util.find_spec("torch") is None:
        return Check("fused kernels", False, "no torch", purpose)
    from ..kernels.library import UnavailableError, library

    try:
        found = library()
    except UnavailableError as error:
        return Check("fused kernels", False, f"slower ones serve: {error}", purpose)
    threads = "" if found.threads else ", on one thread: the compiler had no OpenMP"
    return Check("fused kernels", True, f"for {found.level}{threads}", purpose)


def _cuda() -> Check:
    purpose = "selection where the model's features are"
    if importlib.util.find_spec("torch") is None:
        return Check("CUDA", False, "no torch", purpose)
    import torch

    if not torch.cuda.is_available():
        return Check("CUDA", False, "no device; everything runs on the CPU", purpose)
    return Check("CUDA", True, torch.cuda.get_device_name(), purpose)
