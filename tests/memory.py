"""Peak memory of a piece of code, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

# Not getrusage: its high-water mark is inherited from the process that starts this one, which may be the larger.
_MEASURE = """
def _peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
{prepare}
_before = _peak()
{work}
print(_peak() - _before)
"""


def peak_growth(prepare: str, work: str) -> tuple[int, str]:
    """Bytes by which ``work`` raises the peak memory (Linux) that ``prepare`` left, and what both printed before."""
    code = _MEASURE.format(prepare=prepare, work=work)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *said, growth = run.stdout.splitlines()
    return int(growth), "\n".join(said)
