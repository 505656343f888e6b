"""Hatchling's build hook: the fused CPU kernels are compiled while stgraph is installed.

The variable ``STGRAPH_BUILD_KERNELS`` is ``auto`` by default: without a C compiler stgraph is installed without them,
and the reference kernels serve. ``always`` makes that an error, as wheels for others need it. ``never`` leaves them
out.
"""

from __future__ import annotations

import os
import runpy
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class KernelsHook(BuildHookInterface[Any]):
    """Compiles into the source tree; an editable install reads it there, a wheel takes a copy."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Before files are gathered."""
        wanted = os.environ.get("STGRAPH_BUILD_KERNELS") or "auto"
        if wanted not in ("auto", "always", "never"):
            raise ValueError(f"STGRAPH_BUILD_KERNELS must be auto, always or never, got {wanted!r}")
        if wanted == "never":
            return
        kernels = runpy.run_path(str(Path(self.root) / "stgraph" / "kernels" / "build.py"))  # without importing torch
        try:
            kernels["build"]()
        except kernels["BuildError"] as error:
            if wanted == "always":
                raise
            self.app.display_warning(f"installed without the fused kernels: {error}")
            return
        build_data["pure_python"] = False
        build_data["artifacts"] += [f"/stgraph/kernels/{name}" for name in (kernels["LIBRARY"], kernels["RECORD"])]
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"  # called through ctypes: one for every version of Python
