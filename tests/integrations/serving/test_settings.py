"""What the environment may say of the selector that serves, and the sentence for what it may not."""

from __future__ import annotations

import pytest

from stgraph import StgraphError
from stgraph.integrations.serving.settings import Settings
from stgraph.integrations.serving.vllm import register

NAME = "STGRAPH_VLLM"


def test_words_as_on_the_command_line(monkeypatch, tmp_path):
    monkeypatch.setenv(NAME, "selector=simdiff community=leiden community.resolution=0.5")
    monkeypatch.setenv(f"{NAME}_DUMP", str(tmp_path / "new" / "folder"))
    monkeypatch.setenv(f"{NAME}_STRICT", "1")
    settings = Settings.from_environment(NAME)
    assert settings.selector.configuration["community"]["resolution"] == 0.5
    assert settings.selector.strict
    assert settings.dump == tmp_path / "new" / "folder"
    assert settings.dump.is_dir()


def test_the_configuration_of_a_run_serves_as_it_is(monkeypatch, tmp_path):
    """A run's file holds retention, video and encoder too, which the server decides."""
    path = tmp_path / "config.yaml"
    path.write_text("retention: 0.2\nvideo: {frames: 8}\nselector: evs\n")
    monkeypatch.setenv(NAME, str(path))
    settings = Settings.from_environment(NAME)
    assert settings.selector.configuration["name"] == "evs"
    assert not settings.selector.strict
    assert settings.dump is None


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"": "selector=simdif"}, "STGRAPH_VLLM: .*did you mean 'simdiff'"),
        ({"": "simdiff"}, "STGRAPH_VLLM: 'simdiff' is not a setting; write settings as selector=simdiff"),
        ({"": "selector='evs"}, "STGRAPH_VLLM: .* cannot be split into words"),
        ({"": "retention=0.3"}, "STGRAPH_VLLM: retention=0.3 cannot be set here"),
        ({"": "selector=fastv"}, "STGRAPH_VLLM: .*needs the signal llm_attention"),
        ({"": "no/such.yaml"}, "STGRAPH_VLLM: there is no configuration file no/such.yaml"),
        ({"": "selector=evs", "_STRICT": "yes"}, "STGRAPH_VLLM_STRICT must be 1 or 0, got 'yes'"),
        ({"": "selector=evs", "_DUMP": "/dev/null/x"}, "STGRAPH_VLLM_DUMP=/dev/null/x is no folder to write into"),
    ],
)
def test_what_cannot_serve_is_one_sentence(monkeypatch, variables, sentence):
    for tail, value in variables.items():
        monkeypatch.setenv(NAME + tail, value)
    with pytest.raises(StgraphError, match=sentence) as caught:
        Settings.from_environment(NAME)
    assert "\n" not in str(caught.value)


def test_a_file_that_names_foreign_code_is_refused(monkeypatch, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("selector: my_module:Mine\n")
    monkeypatch.setenv(NAME, str(path))
    with pytest.raises(StgraphError, match="runs code from outside stgraph"):
        Settings.from_environment(NAME)


@pytest.mark.parametrize("value", [None, "", "  "])
def test_without_the_variable_nothing_is_done(monkeypatch, value):
    monkeypatch.delenv(NAME, raising=False)
    if value is not None:
        monkeypatch.setenv(NAME, value)
    register()  # would import vLLM, which is not installed here
