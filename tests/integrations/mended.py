"""Run lmms-eval beside a torchvision that was built for another torch: ``python mended.py eval ...``.

Beside its CPU build, torch lacks two operators that such a torchvision looks for when it is imported. They are declared
first; nothing calls them.
"""

from __future__ import annotations

import sys

import torch

_LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def mend() -> None:
    """Make ``import torchvision`` work, also where it would anyway."""
    try:
        import torchvision
    except RuntimeError:
        for module in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[module]
        for name in ("nms", "qnms"):
            _LIBRARY.define(name + _SIGNATURE)
        import torchvision  # noqa: F401


if __name__ == "__main__":
    mend()
    from lmms_eval.cli.dispatch import main

    sys.exit(main())
