"""Run every notebook in one go and store it with its pictures: ``python notebooks/store.py [NAME...]``.

What is stored is one complete run without the times of execution. The live widget of the explorer is left out: what is
stored is the page that a reader without a kernel sees.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent
LIVE = "application/vnd.jupyter.widget-view+json"


def store(path: Path) -> None:
    """Run one notebook and write it back."""
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(FOLDER)}}
    NotebookClient(notebook, record_timing=False, store_widget_state=False, timeout=1800, resources=resources).execute()
    for cell in notebook.cells:
        cell.metadata = {}
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(LIVE, None)
    notebook.metadata.language_info = {"name": "python"}
    nbformat.write(notebook, path)


if __name__ == "__main__":
    for found in sorted(FOLDER.glob("*.ipynb")):
        if not sys.argv[1:] or any(word in found.name for word in sys.argv[1:]):
            store(found)
