"""Style of the documentation: long sentences, and words that a reader has to read twice.

``python -m benchmarks.style`` lists every finding in README, CONTRIBUTING and docs. Tables, code, headings and formulas
are not judged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
LONGEST = 40

RULES = {
    r"\bwhole or not at all\b": "say that nothing is written when it fails",
    r"\bdone without\b": "say what is left out",
    r"\b(nothing|none) flows back\b": "say which direction data takes",
    r"\ball the same\b": "say 'anyway', or leave it out",
    r"\bgo(es)? behind\b": "say what is called",
    r"\b(is|are) heeded\b": "'is used'",
    r"\b(nobody|somebody) said\b": "say which option",
    r"\blikewise\.": "write the sentence out",
    r"\bcosts? the others\b": "say that the others still run",
    r"\bnext to nothing\b": "give the figure",
    r"\bare told apart\b": "'are different'",
    r"\b(kernel|method|selector|graph|model|tower|stream|command)s? (wants?|knows?|hopes?|pays?|tr(y|ies) hard)\b": (
        "programs do not want or know; say what is called or required"
    ),
    r"\bpays? (with|for)\b": "say what gets worse",
    r"\bat hand\b": "'available'",
    r"\bgo(es)? on\b": "'continue'",
    r"\bby lot\b": "'at random'",
    r"\bby the way\b|\bof course\b|\bsimply\b": "leave it out",
}


class Finding(NamedTuple):
    """A place that should be rewritten."""

    file: str
    text: str
    why: str


def pages() -> list[Path]:
    """The pages that are judged."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def paragraphs(text: str) -> Iterator[str]:
    """The paragraphs and list items of a page in Markdown, without code, tables, headings and link targets."""
    text = re.sub(r"```.*?```", "\n\n", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )", text):
        lines = [line.strip() for line in block.splitlines() if not line.startswith("  python ")]
        lines = [line for line in lines if line and not line.startswith(("|", "#", "![", "<", "!!!", "@"))]
        if lines:
            joined = re.sub(r"\]\([^)]*\)", "]", " ".join(lines))
            yield re.sub(r"`[^`]*`", "code", joined)


def sentences(paragraph: str) -> list[str]:
    """The sentences of a paragraph; a semicolon or a colon ends one, as a reader pauses there."""
    return re.split(r"(?<=[.!?;:])\s+(?=\S)", paragraph)


def findings(text: str, file: str) -> list[Finding]:
    """What should be rewritten in a page."""
    found = []
    for paragraph in paragraphs(text):
        found += [
            Finding(file, paragraph[max(0, match.start() - 40) : match.end() + 40], why)
            for rule, why in RULES.items()
            for match in re.finditer(rule, paragraph, flags=re.IGNORECASE)
        ]
        for sentence in sentences(paragraph):
            count = len(re.findall(r"[A-Za-z][\w'-]*", sentence))
            if count > LONGEST:
                found.append(Finding(file, sentence, f"{count} words in one sentence; at most {LONGEST}"))
    return found


def main() -> None:
    """Print every finding."""
    for page in pages():
        for finding in findings(page.read_text("utf-8"), page.relative_to(ROOT).as_posix()):
            print(f"{finding.file}: {finding.why}\n    {finding.text}")


if __name__ == "__main__":
    main()
