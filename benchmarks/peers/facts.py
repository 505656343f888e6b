"""What was published of each method, what it needs, and how ours departs from it."""

from __future__ import annotations

from typing import NamedTuple


class Facts(NamedTuple):
    """A row of the table of methods.

    Attributes:
        published: name, venue and year with a link.
        count: what ``count="published"`` keeps.
        departures: from the authors' code, beside the count; each class lists all of its own.
        needs: the signals that it asks for.
        merges: whether kept tokens take in others.
        golden: name of its golden outputs; None where there are none.
    """

    published: str
    count: str = "same"
    departures: str = "–"
    needs: str = "–"
    merges: bool = False
    golden: str | None = None


def _arxiv(name: str, venue: str, number: str) -> str:
    return f"{name}, [{venue}](https://arxiv.org/abs/{number})"


ATTENTION, BOTH, LLM = "encoder attention", "encoder attention, keys", "LLM attention"

FACTS = {
    "random": Facts("floor: random tokens"),
    "uniform": Facts("floor: evenly spaced tokens"),
    "fewer_frames": Facts("floor: all tokens of evenly spaced frames"),
    "pooled_frames": Facts("floor: every frame average-pooled", merges=True),
    "fewer_pooled_frames": Facts("floor: both", merges=True),
    "simdiff": Facts(
        "ST-SimDiff, [ICLR 2026](https://openreview.net/forum?id=he8kYNcoMA)",
        "`preset=release`",
        "none",
        golden="stsimdiff_release",
    ),
    "fastv": Facts(_arxiv("FastV", "ECCV 2024", "2403.06764"), "⌈r·N⌉", needs=LLM),
    "pyramiddrop": Facts(
        _arxiv("PyramidDrop", "CVPR 2025", "2410.17247"),
        "halves, three times",
        "as a plain selector it is FastV",
        LLM,
    ),
    "sparsevlm": Facts(
        _arxiv("SparseVLM", "ICML 2025", "2410.04417"),
        "their list of numbers",
        "own positions; as a plain selector one round",
        LLM,
        True,
    ),
    "fastervlm": Facts(_arxiv("FasterVLM", "2024", "2412.01818"), "⌈r·n⌉ a frame", "own positions", ATTENTION),
    "visionzip": Facts(
        _arxiv("VisionZip", "CVPR 2025", "2412.04467"),
        "⌈r·n⌉ a frame",
        "no [CLS] row, raster order",
        BOTH,
        True,
        "visionzip",
    ),
    "prumerge": Facts(
        _arxiv("PruMerge", "ICCV 2025", "2403.15388"),
        "attention outliers",
        "place of the last row",
        BOTH,
        True,
        "prumerge",
    ),
    "prumerge_plus": Facts(
        _arxiv("PruMerge+", "ICCV 2025", "2403.15388"),
        "attention outliers and a grid",
        "place of the last row",
        BOTH,
        True,
        "prumerge_plus",
    ),
    "framefusion": Facts(
        _arxiv("FrameFusion", "ICCV 2025", "2501.01986"),
        "mean over the layers",
        "last round prunes",
        LLM,
        True,
        "framefusion",
    ),
    "evs": Facts(_arxiv("EVS", "NVIDIA 2025", "2510.14624") + ", as vLLM runs it", "max(n, ⌊r·N⌋)", golden="evs"),
    "vidcom2": Facts(
        _arxiv("VidCom2", "EMNLP 2025", "2505.14454"),
        "max(1, round) a frame",
        "newline tokens follow `separators`",
        golden="vidcom2",
    ),
    "divprune": Facts(_arxiv("DivPrune", "CVPR 2025", "2503.02175"), "round(r·N)", golden="divprune"),
    "dart": Facts(
        _arxiv("DART", "EMNLP 2025", "2502.11494"),
        "4 + 8·int(r·N/8)",
        "before the LLM",
        "keys, a question",
        golden="dart",
    ),
    "cdpruner": Facts(
        _arxiv("CDPruner", "NeurIPS 2025", "2506.10967"),
        "⌈r·n⌉ a frame",
        "the LLM's embeddings for CLIP's",
        "a question",
    ),
    "fastvid": Facts(
        _arxiv("FastVID", "NeurIPS 2025", "2503.11187"),
        "int(r·n) a frame",
        "frame vector, no random density",
        ATTENTION,
        True,
        "fastvid",
    ),
    "flashvid": Facts(
        "FlashVID, [2026](https://github.com/Fanziyang-v/FlashVID)",
        "⌈1.25·r·n⌉ a frame",
        "doubled places, no random density",
        ATTENTION,
        True,
        "flashvid",
    ),
    "holitom": Facts(
        _arxiv("HoliTom", "NeurIPS 2025", "2505.21334"),
        "⌈n·r′⌉, round(n·r′)",
        "only the stage before the LLM",
        ATTENTION,
        True,
        "holitom",
    ),
    "dycoke": Facts(
        _arxiv("DyCoke", "CVPR 2025", "2411.15024"),
        "k",
        "first stage; the cache stage of decoding is left out",
        golden="dycoke",
    ),
    "prunevid": Facts(
        _arxiv("PruneVid", "ACL 2025", "2412.16117"),
        "share of clusters",
        "only the stage before the LLM",
        merges=True,
        golden="prunevid",
    ),
    "sttm": Facts(
        _arxiv("STTM", "ICCV 2025", "2507.07990"),
        "two thresholds",
        "before the LLM, own positions",
        merges=True,
        golden="sttm",
    ),
    "dtd": Facts(_arxiv("TimeChat-Online", "2025", "2504.17343"), "threshold", "no dropping by pixels"),
    "forestprune": Facts(
        "ForestPrune, [2026](https://github.com/luminousllsa/ForestPrune)",
        "round(N′·r/0.5)",
        "the real grid",
        golden="forestprune",
    ),
    "llava_scissor": Facts(
        _arxiv("LLaVA-Scissor", "2025", "2506.21862"), "τ", "places of rows", merges=True, golden="llava_scissor"
    ),
    "sequence": Facts("two methods one after the other, here `evs` to √r, then `divprune`"),
    "flashvid_trees": Facts("a variant of ours", merges=True),
    "segment_peaks": Facts("a variant of ours", merges=True),
    "importance": Facts("a row of the paper's ablation"),
    "sim_spatial": Facts("a row of the paper's ablation"),
    "sim_temporal": Facts("a row of the paper's ablation"),
    "sim": Facts("a row of the paper's ablation"),
    "diff": Facts("a row of the paper's ablation"),
}
"""By name of the selector, in the order of the table."""

FLOORS = ("random", "uniform", "fewer_frames", "pooled_frames", "fewer_pooled_frames")
"""What every method must beat."""
