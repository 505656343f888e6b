"""The short way to the paper's selection needs the fused kernels, which need a C compiler."""

from ..conftest import COMPILED

collect_ignore = [] if COMPILED else ["test_direct.py"]
