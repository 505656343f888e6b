"""The notebooks as they are stored: executed in one go, with their pictures, and nothing of the machine that ran them.

That they still run is tested by ``pytest --nbmake notebooks``: two of them in ``make test``, all in ``make test-slow``.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
NAMES = (
    "01_from_video_to_graph",
    "02_swap_the_community_algorithm",
    "03_inside_a_video_llm",
    "04_threshold_sensitivity",
    "05_differences_and_events",
    "06_write_your_own_detector",
    "07_read_an_ablation",
)


@pytest.fixture(params=NAMES)
def path(request: pytest.FixtureRequest) -> Path:
    return NOTEBOOKS / f"{request.param}.ipynb"


@pytest.fixture
def notebook(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return data


def outputs(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [output for cell in notebook["cells"] for output in cell.get("outputs", [])]


def test_every_notebook_is_listed():
    assert sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")) == list(NAMES)


def test_stored_as_one_complete_run(notebook):
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))


def test_pictures_are_stored_and_small(path, notebook):
    pictures = [output for output in outputs(notebook) if "image/jpeg" in output.get("data", {})]
    assert len(pictures) >= 1
    assert path.stat().st_size < 1_200_000


def test_the_graph_can_be_explored_without_a_kernel(notebook):
    pages = [output for output in outputs(notebook) if "srcdoc" in "".join(output.get("data", {}).get("text/html", ""))]
    assert len(pages) == 1


def test_no_errors_warnings_or_progress(notebook):
    assert {output["output_type"] for output in outputs(notebook)} <= {"display_data", "execute_result"}


def test_nothing_of_the_machine(notebook):
    text = [str(value) for output in outputs(notebook) for kind, value in output["data"].items() if "text" in kind]
    assert not re.search(r"(^|[\s'\"(])(/\w+/|[A-Z]:\\\\)", "\n".join(text)), "an absolute path"
    assert all(cell["metadata"] == {} for cell in notebook["cells"]), "times of execution"
    assert notebook["metadata"].keys() == {"kernelspec", "language_info"}
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert notebook["metadata"]["language_info"] == {"name": "python"}


def test_links_lead_somewhere(notebook):
    text = "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert links
    assert [link for link in links if not (NOTEBOOKS / link).is_file()] == []
