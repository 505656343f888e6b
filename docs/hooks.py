"""The gallery and the reference, both made from docstrings, and the links of the notebooks."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import stgraph
from stgraph.registry import GROUPS, registry

if TYPE_CHECKING:
    from mkdocs.structure.files import Files

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
ARXIV = re.compile(r"arXiv[ :](\d{4}\.\d{4,5})(?![^<]*</a>)")
SKIPPED = ("stgraph.__main__", "stgraph.app.cli", "stgraph.app.commands", "stgraph.kernels.programs")


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages."""
    from mkdocs.structure.files import File

    pages = {"gallery/index.md": gallery(), "reference.md": reference()}
    for group in GROUPS:
        for name in registry(group):
            pages[f"gallery/{group}-{name}.md"] = _method(group, name)
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Roles of docstrings become links; links between notebooks and pages follow the site."""
    html = re.sub(r":(?:class|func|meth|data|mod|attr):<code>(~?)([\w.]+)</code>", _link, html)
    html = html.replace("::</p>", ":</p>")  # docstrings mark a listing by two colons
    html = ARXIV.sub(r'<a href="https://arxiv.org/abs/\1">arXiv \1</a>', html)
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


def _first(group: str, name: str) -> str:
    """The first paragraph of a method's docstring, as Markdown."""
    doc = inspect.getdoc(registry(group).get(name)) or ""
    return _plain(doc.split("\n\n")[0]).replace("\n", " ")


def picture(group: str, name: str) -> Path:
    """Where the picture of a method is stored, if it has one."""
    return ROOT / "docs" / "images" / "gallery" / f"{group}_{name}.jpg"


def gallery() -> str:
    """The start of the gallery: every method with its picture and its first sentence."""
    what = (
        "Every method, with a picture on the same clip: evening, a cut, a balloon, lightning, a boat, a fade to night. "
        "Its page says what it does, its parameters, its source, and how it departs from a paper. "
        "[The glossary](../glossary.md) has the words, [pictures](../pictures.md) the colours."
    )
    lines = ["# Gallery", "", what, ""]
    for group, title in TITLES.items():
        lines += [f"## {title}", "", f"`{group}=…` in a configuration, on the command line, in an experiment.", ""]
        for name in registry(group):
            lines += [f"### [{name}]({group}-{name}.md)", "", _first(group, name), ""]
            if picture(group, name).is_file():
                lines += [f"![{name} on the sample clip](../images/gallery/{group}_{name}.jpg){{ loading=lazy }}", ""]
    return "\n".join(lines)


def _method(group: str, name: str) -> str:
    made = registry(group).get(name)
    path = Path(inspect.getsourcefile(made) or "").resolve().relative_to(ROOT)
    defaults = {key: value for key, value in registry(group).default_config(name).items() if key != "name"}
    lines = [f"# {name}", "", f"*{TITLES[group]}* · `{group}={name}` · the code is in `{path}`, and below", ""]
    if picture(group, name).is_file():
        lines += [f"![{name} on the sample clip](../images/gallery/{group}_{name}.jpg)", ""]
    else:
        lines += ["No picture: what it reads comes from a model, and the sample clip is shown without one.", ""]
    lines += ["```sh", f"stgraph compress clip.mp4 {group}={name}", "```", ""]
    if defaults:
        lines += ["| parameter | default |", "|---|---|"]
        lines += [f"| `{key}` | `{_word(value)}` |" for key, value in defaults.items()] + [""]
    else:
        lines += ["It has no parameters.", ""]
    options = ("show_source: true", "show_root_heading: false", "show_root_toc_entry: false", "members: false")
    lines += [
        f"::: {made.__module__}.{made.__qualname__}",
        "    options:",
        *(f"      {option}" for option in options),
        "",
    ]
    return "\n".join(lines)


def _word(value: Any) -> str:
    return str(value["name"]) if isinstance(value, dict) and "name" in value else str(value)


def reference() -> str:
    """Every public class and function, module by module."""
    lines = ["# Reference", "", "Every public name. What `from stgraph import …` gives comes first.", ""]
    for name in stgraph.__all__:
        if not name.startswith("_"):
            made = getattr(stgraph, name)
            lines.append(f"- [`stgraph.{name}`][{made.__module__}.{made.__qualname__}]")
    lines.append("")
    for path in sorted((ROOT / "stgraph").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        skipped = module.startswith(SKIPPED)
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
