"""The gallery and the reference, both made from docstrings, and the links of the notebooks."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

import stgraph
from stgraph.registry import GROUPS, registry

ROOT = Path(__file__).parent.parent
TITLES = {
    "encoder": "Encoders",
    "spatial": "Spatial edges",
    "temporal": "Temporal edges",
    "similarity_threshold": "Thresholds τ_sim",
    "community": "Community detectors",
    "difference": "Difference detectors",
    "importance": "Importance scores",
    "selector": "Selectors",
}
ROLE = re.compile(r":(?:class|func|meth|data|mod|attr):`(~?)([\w.]+)`")
SKIPPED = {"stgraph.__main__", "stgraph.app.cli", "stgraph.kernels.programs"}


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages."""
    pages = {"gallery/index.md": _gallery(), "reference.md": _reference()}
    for group in GROUPS:
        for name in registry(group):
            pages[f"gallery/{group}-{name}.md"] = _method(group, name)
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Roles of docstrings become links; links between notebooks and pages follow the site."""
    html = re.sub(r":(?:class|func|meth|data|mod|attr):<code>(~?)([\w.]+)</code>", _link, html)
    if page.file.src_uri.startswith("notebooks/"):
        html = re.sub(r'href="\.\./docs/([\w-]+)\.md(#[^"]*)?"', r'href="../../\1/\2"', html)
        html = re.sub(r'href="(\d\d_\w+)\.ipynb"', r'href="../\1/"', html)
        html = html.replace('href="../CONTRIBUTING.md"', 'href="../../howto/#a-method-of-your-own"')
    return html


def _link(found: re.Match[str]) -> str:
    name = found[2]
    shown = name.rsplit(".", 1)[-1] if found[1] else name
    return f'<autoref identifier="{name}" optional><code>{shown}</code></autoref>'


def _plain(text: str) -> str:
    """Roles as code, for text that is Markdown."""
    return ROLE.sub(lambda found: f"`{found[2].rsplit('.', 1)[-1] if found[1] else found[2]}`", text).replace("``", "`")


def _gallery() -> str:
    what = "Every method with its docstring: what it does, its parameters, its source, how it departs from a paper."
    lines = ["# Gallery", "", what, ""]
    for group, title in TITLES.items():
        lines += [f"## {title}", "", f"`{group}=…` in a configuration, on the command line, in an experiment.", ""]
        for name in registry(group):
            doc = inspect.getdoc(registry(group).get(name)) or ""
            first = _plain(doc.split("\n\n")[0]).replace("\n", " ")
            lines.append(f"- [`{name}`]({group}-{name}.md): {first}")
        lines.append("")
    return "\n".join(lines)


def _method(group: str, name: str) -> str:
    made = registry(group).get(name)
    path = Path(inspect.getsourcefile(made) or "").resolve().relative_to(ROOT)
    defaults = {key: value for key, value in registry(group).default_config(name).items() if key != "name"}
    words = ", ".join(f"`{key}={_word(value)}`" for key, value in defaults.items()) or "none"
    use = f"{group}={name}"
    lines = [f"# {name}", "", f"*{TITLES[group]}* · `{use}` · source: `{path}`", ""]
    lines += [f"Parameters and their defaults: {words}.", ""]
    picture = ROOT / "docs" / "images" / "gallery" / f"{group}_{name}.jpg"
    if picture.is_file():
        lines += [f"![{name} on the sample clip](../images/gallery/{picture.name})", ""]
    options = ("show_source: true", "show_root_heading: false", "show_root_toc_entry: false", "members: false")
    lines += [
        f"::: {made.__module__}.{made.__qualname__}",
        "    options:",
        *(f"      {option}" for option in options),
        "",
    ]
    lines += ["```sh", f"stgraph compress clip.mp4 {use if group != 'selector' else 'selector=' + name}", "```", ""]
    return "\n".join(lines)


def _word(value: Any) -> str:
    return str(value["name"]) if isinstance(value, dict) and "name" in value else str(value)


def _reference() -> str:
    """Every public class and function, module by module."""
    lines = ["# Reference", "", "Every public name. What `from stgraph import …` gives comes first.", ""]
    for name in stgraph.__all__:
        if not name.startswith("_"):
            made = getattr(stgraph, name)
            lines.append(f"- [`stgraph.{name}`][{made.__module__}.{made.__qualname__}]")
    lines.append("")
    for path in sorted((ROOT / "stgraph").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        skipped = module in SKIPPED or module.startswith("stgraph.app.commands")
        if skipped or "/_" in path.as_posix().removesuffix("/__init__.py"):
            continue
        # Read, not imported: a module may need a library that is not installed here.
        kinds = (ast.ClassDef, ast.FunctionDef)
        named = [node.name for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, kinds)]
        public = [name for name in named if not name.startswith("_")]
        if public:
            options = [
                "show_root_heading: false",
                "show_root_toc_entry: false",
                f"members: {public!r}",
                "heading_level: 3",
            ]
            lines += [f"## {module}", "", f"::: {module}", "    options:", *(f"      {o}" for o in options), ""]
    return "\n".join(lines)
