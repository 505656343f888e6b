"""The badges of the README, made from pyproject.toml: ``python docs/badges.py``. They load nothing."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMAGES = Path(__file__).parent / "images"
WIDTH = 6.6  # of a letter, in pixels


def badges() -> dict[str, str]:
    """File name → SVG."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    version = re.search(r'__version__ = "([^"]+)"', (ROOT / "stgraph" / "__init__.py").read_text("utf-8"))
    assert version is not None
    low, high = _range(project["requires-python"])
    models = next(name for name in project["optional-dependencies"]["models"] if name.startswith("transformers"))
    from_, to = _range(models)
    return {
        "badge_version.svg": _svg("version", version[1]),
        "badge_python.svg": _svg("python", f"{low} to {high}"),
        "badge_transformers.svg": _svg("transformers", f"{from_} to {to}"),
        "badge_types.svg": _svg("types", "mypy strict"),
        "badge_licence.svg": _svg("licence", project["license"]),
    }


def _range(specifier: str) -> tuple[str, str]:
    """The first and the last minor version of ``>=a.b,<a.c``."""
    found = re.search(r">=(\d+)\.(\d+),<(\d+)\.(\d+)", specifier)
    assert found is not None
    return f"{found[1]}.{found[2]}", f"{found[3]}.{int(found[4]) - 1}"


def _svg(name: str, value: str) -> str:
    left, right = (round(WIDTH * len(text) + 14) for text in (name, value))
    text = 'text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img" '
        f'aria-label="{name}: {value}"><title>{name}: {value}</title>'
        f'<rect width="{left + right}" height="20" rx="4" fill="#0067a5"/>'
        f'<path d="M4 0h{left - 4}v20h-{left - 4}a4 4 0 0 1-4-4v-12a4 4 0 0 1 4-4" fill="#3a3e44"/>'
        f'<text x="{left / 2}" y="14" fill="#fff" {text}>{name}</text>'
        f'<text x="{left + right / 2}" y="14" fill="#fff" {text}>{value}</text></svg>\n'
    )


if __name__ == "__main__":
    for file, svg in badges().items():
        (IMAGES / file).write_text(svg, "utf-8")
