"""Put functions in the place of others in a library, whether its modules are loaded already or will be."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

Action = Callable[[ModuleType], None]


def swap(old: Any, new: Any, package: str) -> int:
    """Put ``new`` in the place of ``old`` in every loaded module of a package, also where it was imported by name.

    Values are compared by identity: to compare lazy placeholders by value would import what they stand for.

    Returns:
        How many names were bound anew.
    """
    count = 0
    for name, module in list(sys.modules.items()):
        if module is not None and (name == package or name.startswith(f"{package}.")):
            for key, value in list(vars(module).items()):
                if value is old:
                    setattr(module, key, new)
                    count += 1
    return count


def when_imported(name: str, action: Action) -> None:
    """Call ``action(module)`` as soon as the module has been imported: at once where it has been already.

    An error of the action is an error of that import.
    """
    module = sys.modules.get(name)
    if module is not None:
        action(module)
        return
    finder = next((finder for finder in sys.meta_path if isinstance(finder, _Watcher)), None)
    if finder is None:
        finder = _Watcher()
        sys.meta_path.insert(0, finder)
    finder.actions.setdefault(name, []).append(action)


class _Watcher(MetaPathFinder):
    """Finds no module by itself, but has the loaders of the awaited ones call what waits for them."""

    def __init__(self) -> None:
        self.actions: dict[str, list[Action]] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        actions = self.actions.pop(fullname, None)
        if actions is None:
            return None
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            for action in actions:
                action(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
