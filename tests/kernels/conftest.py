"""Without a C compiler there are no fused kernels to test."""

from ..conftest import COMPILED

collect_ignore = (
    [] if COMPILED else ["test_build.py", "test_dispatch.py", "test_fused.py", "test_grid.py", "test_levels.py"]
)
