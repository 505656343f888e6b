"""Configurations that ship with the package, by name."""

from __future__ import annotations

import pytest
import torch

import stgraph
from stgraph import Signals, StgraphError, VideoTokens
from stgraph.app.config import resolve
from stgraph.app.config_file import load_config, presets
from stgraph.integrations.serving.settings import Settings
from stgraph.registry import registry

from .test_cli import stgraph as command


def test_a_preset_is_a_selector_in_python_and_in_a_configuration() -> None:
    assert presets() == ["tuned"]
    tokens = VideoTokens.from_grid(torch.randn(6, 5, 5, 16, generator=torch.Generator().manual_seed(0)))
    for name in presets():
        selector = stgraph.preset(name, retention=0.2)
        chosen = selector(tokens, Signals())
        assert len(chosen.indices) == 30
        again = resolve(["retention=0.2"], load_config(name)).selector()
        assert again(tokens, Signals()).digest == chosen.digest
        assert stgraph.STSimDiff(retention=0.2)(tokens, Signals()).digest != chosen.digest


def test_a_file_of_the_same_name_comes_first(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tuned").write_text("retention: 0.7\n")
    assert load_config("tuned") == {"retention": 0.7}
    assert (
        stgraph.preset("tuned").similarity_threshold == stgraph.STSimDiff(similarity_threshold=0.9).similarity_threshold
    )


def test_an_unknown_preset_is_told_with_those_there_are() -> None:
    with pytest.raises(StgraphError, match="preset must be"):
        stgraph.preset("tunde")
    with pytest.raises(StgraphError, match=r"there is no configuration file tunde; by name there are: tuned"):
        load_config("tunde")


def test_a_server_takes_a_preset(monkeypatch) -> None:
    monkeypatch.setenv("STGRAPH_VLLM", "tuned")
    served = Settings.from_environment("STGRAPH_VLLM").selector.configuration
    told = registry("selector").config(stgraph.preset("tuned"))
    assert served == {key: value for key, value in told.items() if key not in ("retention", "tokens")}


def test_a_command_takes_a_preset(tmp_path) -> None:
    clip = tmp_path / "clip.mp4"
    frames = torch.randint(0, 256, (8, 3, 32, 48), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    stgraph.write_video(clip, frames, 4)
    done = command("compress", str(clip), "--config", "tuned", "--output", str(tmp_path / "out"), "video.frames=4")
    assert done.returncode == 0, done.stderr
    written = load_config(tmp_path / "out" / "config.yaml")
    assert resolve(base=written).selector() == stgraph.preset("tuned")
