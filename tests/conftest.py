"""Shared fixtures: small random videos as tokens."""

from __future__ import annotations

import os
import signal

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import hypothesis
import torch

if not torch.cuda.is_available():  # Triton asks when it is first imported, which other libraries may do
    os.environ.setdefault("TRITON_INTERPRET", "1")

from stgraph.kernels import build, library

try:
    library.library()
except library.UnavailableError:  # a checkout whose kernels were changed, or never compiled
    try:
        build.build()
    except build.BuildError:
        os.environ["STGRAPH_KERNELS"] = "reference"  # also in the processes that tests start
COMPILED = os.environ.get("STGRAPH_KERNELS") != "reference"

hypothesis.settings.register_profile("default", deadline=None, derandomize=bool(os.environ.get("CI")), print_blob=True)
hypothesis.settings.load_profile("default")
# Many small tensors on busy cores: threads would wait for each other. Tests of thread counts set their own.
torch.set_num_threads(1)
# Shells let what they start in the background ignore Ctrl-C, and so would the programs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
