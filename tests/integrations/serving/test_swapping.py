"""Functions are replaced wherever they are bound, by identity, and as soon as a module is imported."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import pytest

from stgraph.integrations.serving.swapping import swap, when_imported


class Lazy:
    """A placeholder that must be neither compared nor hashed."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other):
        raise ImportError("woken up")


def old():
    return "old"


def new():
    return "new"


def test_every_name_in_the_package_is_bound_anew(monkeypatch):
    modules = {name: ModuleType(name) for name in ("server", "server.models", "serverless")}
    for name, module in modules.items():
        module.lazy, module.function, module.other = Lazy(), old, new
        monkeypatch.setitem(sys.modules, name, module)
    modules["server.models"].alias = old
    assert swap(old, new, "server") == 3
    assert modules["server"].function is modules["server.models"].alias is new
    assert modules["serverless"].function is old


@pytest.fixture
def package(tmp_path, monkeypatch):
    (tmp_path / "awaited").mkdir()
    (tmp_path / "awaited" / "__init__.py").write_text("")
    (tmp_path / "awaited" / "part.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    watchers = list(sys.meta_path)
    yield
    sys.meta_path[:] = watchers
    for name in ("awaited", "awaited.part"):
        sys.modules.pop(name, None)


def test_what_waits_for_a_module_is_called_once_it_is_whole(package):
    seen = []
    when_imported("awaited.part", lambda module: seen.append(module.value))
    when_imported("awaited.part", lambda module: setattr(module, "value", 2))
    assert not seen
    assert importlib.import_module("awaited.part").value == 2
    assert seen == [1]
    when_imported("awaited.part", lambda module: seen.append(module.value))
    assert seen == [1, 2], "at once where it has been imported"


def test_an_error_of_an_action_is_one_of_the_import(package):
    def refuse(module):
        raise ValueError("another layout")

    when_imported("awaited.part", refuse)
    with pytest.raises(ValueError, match="another layout"):
        importlib.import_module("awaited.part")
