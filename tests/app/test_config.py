"""The words of the configuration."""

from __future__ import annotations

import dataclasses

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from stgraph import StgraphError, STSimDiff
from stgraph.app.config import resolve, resolve_all
from stgraph.app.config_file import load_config
from stgraph.app.overrides import sweep
from stgraph.difference import Percentile
from stgraph.importance.graph import Centrality
from stgraph.registry import GROUPS, registry


def test_defaults_are_the_paper():
    assert resolve().selector() == STSimDiff()


def test_overrides_in_any_order():
    words = [
        "difference.percentile=90",
        "difference=percentile",
        "retention=0.5",
        "importance=auto",
        "importance.substitute=centrality",
    ]
    for order in (words, words[::-1]):
        selector = resolve(order).selector()
        assert selector.retention == 0.5
        assert selector.difference == Percentile(90.0)
        assert selector.importance.substitute == Centrality()


def test_later_overrides_win():
    assert resolve(["retention=0.5", "retention=0.2"]).selector().retention == 0.2


def test_vision_tower_in_one_word():
    encoder = resolve(["encoder=hf:some-org/some-model"]).data["encoder"]
    assert (encoder["name"], encoder["model"]) == ("hf", "some-org/some-model")


@pytest.mark.parametrize("group", [group for group in GROUPS if group != "encoder"])
def test_every_registered_method_round_trips(group):
    methods = registry(group)
    for name in methods:
        method = methods.build(name)
        config = methods.config(method)
        assert methods.default_config(name)["name"] == name
        assert methods.build(yaml.safe_load(yaml.safe_dump(config))) == method


def test_full_configuration_runs_to_itself(tmp_path):
    config = resolve(["difference=percentile", "difference.percentile=90", "retention=0.25", "video.fps=2"])
    file = tmp_path / "config.yaml"
    file.write_text(config.to_yaml())
    assert resolve([], load_config(file)) == config


def test_overrides_replace_what_the_file_says_of_the_same_thing(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(resolve(["difference=percentile", "difference.percentile=90"]).to_yaml())
    assert resolve(["difference=threshold"], load_config(file)).data["difference"] == {
        "name": "threshold",
        "threshold": 0.2,
    }
    assert resolve(["selector=random"], load_config(file)).data["selector"] == {"name": "random", "seed": 0}


def test_partial_file(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("retention: 0.1\ndifference:\n  threshold: 0.4\n")
    selector = resolve([], load_config(file)).selector()
    assert (selector.retention, selector.difference.threshold) == (0.1, 0.4)


@given(st.floats(1e-3, 1, exclude_min=True))
def test_retention_is_kept_to_the_last_digit(retention):
    assert resolve([f"retention={retention!r}"]).selector().retention == retention


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("comunity=components", "did you mean 'community'"),
        ("difference=treshold", "did you mean 'threshold'"),
        ("difference.treshold=0.1", "did you mean 'threshold'"),
        ("video.frmes=3", "did you mean 'video.frames'"),
        ("retention=abc", "retention must be a number, got 'abc'"),
        ("retention=0", "retention must be a number > 0 and ≤ 1, got 0"),
        ("retention=1.5", "retention must be a number > 0 and ≤ 1, got 1.5"),
        ("retention=true", "retention must be a number, got True"),
        ("difference.threshold=2", "must be a number ≥ -1 and ≤ 1, got 2"),
        ("retention", "must have the form name=value"),
        ("=3", "must have the form name=value"),
        ("retention=[", "cannot be read"),
        ("+retention=0.3", "adding and deleting entries is not possible"),
        ("retention=0.1,0.2", "gives several values"),
        ("selector=random community=components", "'random' does not use 'community'"),
        ("retention.x=1", "is a single value"),
        ("video=3", "one by one"),
        ("selector=[1]", "selector must be a name"),
        ("community=nowhere.at:All", "cannot be imported"),
        ("community=stgraph.errors:StgraphError", "must be a dataclass derived from CommunityDetector"),
        ("importance.substitute.sede=1", "has no parameter 'sede'"),
        ("selector.community=leiden", "write community= in place of selector.community="),
        ("selector=sequence selector.first.count=exact", "write first.count= in place of selector.first.count="),
    ],
)
def test_bad_words_get_one_sentence(words, sentence):
    with pytest.raises(StgraphError) as error:
        resolve(words.split())
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "sentence"), [("a: [1", "not a YAML file"), ("- 1", "must hold a YAML mapping"), ("", "mapping")]
)
def test_bad_files(tmp_path, text, sentence):
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(StgraphError, match=sentence):
        load_config(file)
    with pytest.raises(StgraphError, match="there is no configuration file"):
        load_config(tmp_path / "none.yaml")


def test_method_from_outside_the_package():
    selector = resolve(["community=tests.app.test_config:Halves"]).selector()
    assert selector.community == Halves()
    assert registry("community").config(selector.community) == {"name": "tests.app.test_config:Halves", "parts": 2}


from stgraph.community import CommunityDetector  # noqa: E402 - the plug-in below reads like a user's file


@dataclasses.dataclass(frozen=True)
class Halves(CommunityDetector):
    """A user's own detector."""

    parts: int = 2

    def detect(self, graph):
        return graph.token % self.parts


@pytest.mark.parametrize("name", list(registry("selector")))
def test_every_choice_of_a_method_inside_takes_effect(name):
    selector = registry("selector").get(name)
    for field in dataclasses.fields(selector):
        group = field.metadata.get("group")
        for chosen in () if group is None else registry(group):
            config = resolve([f"selector={name}", f"{field.name}={chosen}"])
            assert config.data[field.name]["name"] == chosen


def test_methods_one_after_the_other_keep_their_settings():
    words = "selector=sequence first=simdiff first.community=leiden second=uniform selector.first_retention=0.5"
    built = resolve(words.split()).selector()
    assert type(built.first).__name__ == "STSimDiff"
    assert type(built.first.community).__name__ == "Leiden"
    assert type(built.second).__name__ == "UniformSelector"


def test_sweep_is_the_product():
    assert sweep(["community=components,louvain", "retention=0.1,0.3", "video.fps=2"]) == [
        ["community=components", "retention=0.1", "video.fps=2"],
        ["community=components", "retention=0.3", "video.fps=2"],
        ["community=louvain", "retention=0.1", "video.fps=2"],
        ["community=louvain", "retention=0.3", "video.fps=2"],
    ]


def test_glob_names_methods():
    assert sweep(["selector=glob(*)"]) == [[f"selector={name}"] for name in registry("selector")]
    words = sweep(["community=glob([l*,info*],exclude=leiden)", "retention=0.1,0.2"])
    assert words[:2] == [["community=louvain", "retention=0.1"], ["community=louvain", "retention=0.2"]]
    assert {first for first, _ in words} == {
        f"community={name}" for name in registry("community") if name.startswith(("l", "info")) and name != "leiden"
    }


@pytest.mark.parametrize(
    ("word", "sentence"),
    [("selector=glob(xyz*)", "no selector has a name as in"), ("retention=glob(*)", "glob stands for methods of")],
)
def test_glob_of_nothing(word, sentence):
    with pytest.raises(StgraphError, match=sentence):
        sweep([word])


def test_settings_apply_where_a_method_has_them():
    words = ["selector=simdiff,fastervlm,visionzip,random", "selector.signal=features", "community=leiden"]
    configs = resolve_all(sweep(words))
    assert [config.selector() for config in configs] == [
        registry("selector").build({"name": "simdiff", "community": "leiden"}),
        registry("selector").build({"name": "fastervlm", "signal": "features"}),
        registry("selector").build({"name": "visionzip", "signal": "features"}),
        registry("selector").build("random"),
    ]
    assert [config.unused for config in configs] == [
        {"selector.signal": "simdiff"},
        {"community": "fastervlm"},
        {"community": "visionzip"},
        {"community": "random", "selector.signal": "random"},
    ]
    assert resolve(["selector=random"]).unused == {}


def test_settings_of_methods_inside_apply_where_they_fit():
    configs = resolve_all(sweep(["community=components,leiden", "community.resolution=0.5"]))
    assert [config.data["community"].get("resolution") for config in configs] == [None, 0.5]
    assert [config.unused for config in configs] == [{"community.resolution": "components"}, {}]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("selector=simdiff selector.signal=features", "selector 'simdiff' has no parameter 'signal'"),
        (
            "selector=simdiff,fastervlm selector.singal=features",
            "none of .* 'selector.singal'; did you mean 'selector.s",
        ),
        ("selector=random,uniform community=leiden", "none of random, uniform has the setting 'community'; leave it"),
        ("selector=random,fastervlm selector.signal=loud", "signal must be one of"),
        ("selector=random,simdiff comunity=leiden", "did you mean"),
    ],
)
def test_a_setting_that_fits_nothing_is_refused(words, sentence):
    with pytest.raises(StgraphError, match=sentence):
        resolve_all(sweep(words.split()))


@pytest.mark.parametrize(("preset", "separators"), [("paper", "proportional"), ("release", "vertex")])
def test_what_a_preset_settles_is_recorded(preset, separators):
    config = resolve([f"selector.preset={preset}"])
    assert config.data["separators"] == separators == config.selector().separators
    assert resolve([], config.data).data == config.data
