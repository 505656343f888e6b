"""Each report for vLLM in docs/serving.md shows what it says. Runs before the plugin changes anything."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.vllm

PAGE = Path(__file__).parents[3] / "docs" / "serving.md"
REPORTS = re.findall(r"^### (\d\. [^\n]+)$.*?^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)


def test_there_are_seven():
    assert len(REPORTS) == 7


@pytest.mark.parametrize("program", [program for _, program in REPORTS], ids=[title for title, _ in REPORTS])
def test_a_report_prints_what_it_says(program, capsys):
    exec(compile(program, str(PAGE), "exec"), {"__name__": "report"})
    expected = "\n".join(line.removeprefix("# ") for line in re.findall(r"^# .*$", program, re.M))
    assert capsys.readouterr().out.strip() == expected
