"""How the package is laid out: folders, floors, imports, circles, measured from its imports.

``python -m benchmarks.layout`` prints the counts. ``--at REVISION`` measures another revision of the repository.
``--write`` puts the drawing into README.md.

Every import counts, also those inside functions. Imports that only type checkers read are counted by themselves too:
they load nothing, so a circle of them does no harm.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

import networkx as nx

ROOT = Path(__file__).parents[1]
DRAWING = re.compile(r"(?<=```mermaid\n).*?(?=```)", re.DOTALL)

#: The names that users import from `stgraph` come from everywhere; `python -m stgraph` is the command line.
FRONT = {"stgraph", "stgraph.__main__"}

LABELS = {
    "video": "video/ reads files",
    "encoders": "encoders/ frames → tokens",
    "tokens": "VideoTokens",
    "graph": "graph/ tokens → graph",
    "community": "community/ similarity",
    "difference": "difference/ change",
    "importance": "importance/",
    "selectors": "selectors/ tokens → Selection",
    "models": "models/ video LLMs",
    "viz": "viz/ pictures, report",
    "app": "app/ command line",
    "integrations": "integrations/ lmms-eval, vLLM",
    "kernels": "kernels/ torch, C, Triton",
    "sample": "sample/ clips with known events",
}


class Layout(NamedTuple):
    """Modules of the package with their lines, and (importing module, imported module) pairs.

    ``types`` are the imports among them that only type checkers read.
    """

    lines: dict[str, int]
    imports: set[tuple[str, str]]
    types: set[tuple[str, str]]

    @property
    def between_folders(self) -> nx.DiGraph:
        """Folders (and files at the root of the package) as vertices, imports between them as edges."""
        graph = nx.DiGraph()
        graph.add_nodes_from(folder(name) for name in self.lines if name not in FRONT)
        graph.add_edges_from(
            (folder(source), folder(target))
            for source, target in self.imports
            if not {source, target} & FRONT and folder(source) != folder(target)
        )
        return graph

    def circles(self, besides: set[tuple[str, str]] = frozenset()) -> list[list[str]]:
        """Files that import each other in a circle, without the imports that ``besides`` names.

        The face of a package (its ``__init__``) only hands on names of its own files, so it counts as none of them.
        """
        faces = FRONT | {name for name in self.lines if any(other.startswith(f"{name}.") for other in self.lines)}
        files = nx.DiGraph((a, b) for a, b in self.imports - besides if not {a, b} & faces)
        return sorted(sorted(circle) for circle in nx.strongly_connected_components(files) if len(circle) > 1)

    def drawing(self, besides: set[tuple[str, str]] = frozenset()) -> str:
        """The folders as a Mermaid flow chart: an arrow leads from a folder to one that imports it.

        An arrow that follows from others is left out, and so is what every folder imports.
        """
        graph = Layout(self.lines, self.imports - besides, set()).between_folders
        graph.remove_nodes_from([name for name in graph if name not in LABELS])
        graph.remove_node("kernels")
        rows = [f'  {name}["{LABELS[name]}"]' for name in LABELS if name in graph]
        reduced = nx.transitive_reduction(graph)
        order = list(LABELS)
        pairs = sorted((order.index(b), order.index(a)) for a, b in reduced.edges)
        rows += [f"  {order[target]} --> {order[source]}" for target, source in pairs]
        return "\n".join(["flowchart LR", *rows, ""])


def folder(module: str) -> str:
    """The folder, or file at the root, in which a module of the package lies."""
    return module.split(".")[1]


def read(root: Path = ROOT) -> Layout:
    """The layout of the package in a checkout."""
    files = {}
    for file in sorted((root / "stgraph").rglob("*.py")):
        parts = file.relative_to(root).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    texts = {name: file.read_text("utf-8") for name, file in files.items()}
    imports, runs = set(), set()
    for name, file in files.items():
        tree, is_package = ast.parse(texts[name]), file.name == "__init__.py"
        imports |= {(name, target) for target in _imported(name, tree, is_package, set(files))}
        tree = _WithoutTypes().visit(tree)
        runs |= {(name, target) for target in _imported(name, tree, is_package, set(files))}
    return Layout({name: len(text.splitlines()) for name, text in texts.items()}, imports, imports - runs)


class _WithoutTypes(ast.NodeTransformer):
    """Removes ``if TYPE_CHECKING:`` blocks."""

    def visit_If(self, node: ast.If) -> ast.AST | None:
        """None for such a block."""
        return None if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING" else self.generic_visit(node)


def _imported(name: str, tree: ast.AST, is_package: bool, known: set[str]) -> set[str]:
    package = name.split(".") if is_package else name.split(".")[:-1]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *((node.module or "").split(".") if node.module else [])])
            inside = {f"{module}.{alias.name}" for alias in node.names} & known
            found |= inside or {module}
    return (found & known) - {name}


def at(revision: str) -> Layout:
    """The layout of the package at a revision of the repository."""
    archive = subprocess.run(["git", "archive", revision, "stgraph"], cwd=ROOT, check=True, capture_output=True).stdout
    with tempfile.TemporaryDirectory() as folder_, tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder_, filter="data")
        return read(Path(folder_))


def summary(layout: Layout) -> str:
    """Counts in one line, then every circle and every file of more than 300 lines."""
    graph = layout.between_folders
    floors = len(list(nx.topological_generations(nx.condensation(graph))))
    circles = layout.circles(layout.types)
    rows = [
        f"{graph.number_of_nodes()} rooms on {floors} floors, {graph.number_of_edges()} arrows, "
        f"{len(circles)} circles of files ({len(layout.circles())} with imports for type checkers), "
        f"{len(layout.lines)} files"
    ]
    rows += ["circle: " + ", ".join(circle) for circle in circles]
    rows += [f"{count} lines: {name}" for name, count in sorted(layout.lines.items()) if count > 300]
    return "\n".join(rows)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--at", metavar="REVISION", help="measure this revision instead of the working tree")
    parser.add_argument("--write", action="store_true", help="put the drawing into README.md")
    options = parser.parse_args()
    layout = at(options.at) if options.at else read()
    print(summary(layout))
    if options.write:
        from tests.test_layout import AGAINST_THE_ORDER

        drawing = layout.drawing(set(AGAINST_THE_ORDER))
        readme = ROOT / "README.md"
        readme.write_text(DRAWING.sub(lambda _: drawing, readme.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
