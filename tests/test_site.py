"""The site: links, pictures and the reference are whole. The strict build itself: ``make test-site``."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import stgraph
from stgraph.app.config import resolve
from stgraph.registry import GROUPS, registry

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md")), *sorted(DOCS.glob("*.md"))]
GENERATED = re.compile(r"(gallery/[\w.-]+|reference)\.md$")


@cache
def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def hooks() -> ModuleType:
    return script("hooks")


def prose(page: Path) -> str:
    """A page without its code."""
    return re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text("utf-8"), flags=re.S | re.M)


@cache
def anchors(page: Path) -> set[str]:
    """The headings of a page, as the site and GitHub name them."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.S | re.M)
    heads = re.findall(r"^#+ (.*)$", text, re.M)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", head) for head in heads]
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", head.lower()).strip()) for head in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    lost = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"https?:|mailto:", target) or GENERATED.search(target.split("#")[0]):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists() or (anchor and path.suffix == ".md" and anchor not in anchors(path)):
            lost.append(target)
    assert lost == []


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    listed = set(re.findall(r"[\w/]+\.(?:md|ipynb)\b", yaml.safe_dump(yaml.safe_load(text)["nav"])))
    there = {page.name for page in DOCS.glob("*.md")} | {
        f"notebooks/{p.name}" for p in (ROOT / "notebooks").glob("*.ipynb")
    }
    assert listed == there | {"gallery/index.md", "reference.md"}


def test_every_stored_picture_is_shown() -> None:
    shown = {
        Path(target).name for page in PAGES for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text("utf-8"))
    }
    assert {path.name for path in (DOCS / "images").iterdir() if path.is_file()} == shown - {
        Path(name).name for name in shown if not (DOCS / "images" / name).is_file()
    }


def test_badges_say_what_the_project_says() -> None:
    for name, svg in script("badges").badges().items():
        assert (DOCS / "images" / name).read_text("utf-8") == svg, "python docs/badges.py makes them anew"


def test_every_method_has_a_picture_or_needs_a_model() -> None:
    text = hooks().gallery()
    for group in GROUPS:
        for name in registry(group):
            assert f"[{name}]({group}-{name}.md)" in text
            assert resolve([f"{group}={name}"]), f"{group}={name}"
    without = {
        f"{group}={name}" for group in GROUPS for name in registry(group) if not hooks().picture(group, name).is_file()
    }
    assert without == WITHOUT_PICTURE
    pictures = {path for group in GROUPS for name in registry(group) if (path := hooks().picture(group, name))}
    assert set((DOCS / "images" / "gallery").iterdir()) <= pictures


#: What they read comes from a model: attention of an LLM or a tower, or weights.
WITHOUT_PICTURE = {"encoder=hf", "importance=llm_attention", "importance=encoder_attention"}


def test_no_role_of_sphinx_is_left_in_the_gallery() -> None:
    assert not re.search(r":(class|func|meth|data|mod|attr):", hooks().gallery())


def public_names() -> set[str]:
    """Every public class and function of the package, by the module that defines it."""
    found = set()
    for path in (ROOT / "stgraph").rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if module.startswith(hooks().SKIPPED) or any(part.startswith("_") for part in module.split(".")):
            continue
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                found.add(f"{module}.{node.name}")
    return found


def test_the_reference_holds_every_public_name() -> None:
    listed, module = set(), ""
    for line in hooks().reference().splitlines():
        if line.startswith("::: "):
            module = line[4:]
        elif "members: [" in line:
            listed |= {f"{module}.{name}" for name in ast.literal_eval(line.split("members: ")[1])}
    assert listed == public_names()
    exported = [getattr(stgraph, name) for name in stgraph.__all__ if not name.startswith("_")]
    assert {f"{made.__module__}.{made.__qualname__}" for made in exported if inspect.isclass(made)} <= listed


@pytest.mark.site
def test_the_strict_build_and_what_it_made(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr[-3000:]
    pages = {path: path.read_text("utf-8") for path in tmp_path.rglob("*.html")}
    prose = {path: re.sub(r"<pre.*?</pre>", "", text, flags=re.S) for path, text in pages.items()}  # without listings
    roles = {path: re.findall(r":(?:class|func|meth|data|mod|attr):\S*", text) for path, text in prose.items()}
    assert {path: found for path, found in roles.items() if found} == {}
    named = set(re.findall(r'id="(stgraph[\w.]+)"', pages[tmp_path / "reference" / "index.html"]))
    assert public_names() - named == set()
    lost = []
    for path, text in pages.items():
        for target in re.findall(r'<(?:a|img)\b[^>]*?(?:href|src)="([^"#?]+)', text):
            if re.match(r"[a-z]+:|//", target):
                continue
            to = (tmp_path / target.lstrip("/")) if target.startswith("/") else (path.parent / target)
            if path.name != "404.html" and not (to.exists() or (to / "index.html").exists()):
                lost.append(f"{path.relative_to(tmp_path)}: {target}")
    assert lost == []
