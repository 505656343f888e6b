"""The complete programs in README and docs run as they stand; only the folder and the file are others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ..clips import write_clip
from ..models.folders import tiny_folder

ROOT = Path(__file__).parents[2]
FOLDERS = {
    "Qwen/Qwen2.5-VL-7B-Instruct": "qwen2_5_vl",
    "llava-hf/llava-onevision-qwen2-7b-ov-hf": "llava_onevision",
    "lmms-lab/LLaVA-Video-7B-Qwen2": "llava_video",
}
PAGES = ("README.md", "docs/ask.md", "docs/models.md")


def programs():
    """Each block of Python that names a published model, with the page that it is on."""
    for page in PAGES:
        for block in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL):
            if any(f'"{name}"' in block for name in FOLDERS):
                yield pytest.param(block, id=f"{page}-{block.split(chr(34))[1].split('/')[-1][:24]}")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("models")
    return {name: tiny_folder(place / family, family) for name, family in FOLDERS.items()}


def test_each_page_has_some():
    for page, names in {
        "README.md": ("Qwen/Qwen2.5-VL-7B-Instruct", "llava-hf/llava-onevision-qwen2-7b-ov-hf"),
        "docs/ask.md": ("Qwen/Qwen2.5-VL-7B-Instruct", "llava-hf/llava-onevision-qwen2-7b-ov-hf"),
        "docs/models.md": ("Qwen/Qwen2.5-VL-7B-Instruct", "lmms-lab/LLaVA-Video-7B-Qwen2"),
    }.items():
        blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)
        for name in names:
            assert any(f'"{name}"' in block for block in blocks), (page, name)


@pytest.mark.parametrize("program", list(programs()))
def test_a_program_of_the_documentation_runs(program, folders, tmp_path, monkeypatch, capsys):
    write_clip(tmp_path / "clip.mp4", 40)
    monkeypatch.chdir(tmp_path)
    for name, folder in folders.items():
        program = program.replace(f'"{name}"', repr(str(folder)))
    program = program.replace('.to("cuda")', '.to("cpu")').replace('device="cuda"', 'device="cpu"')
    exec(compile(program, "program", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.strip(), "it prints what it found"
