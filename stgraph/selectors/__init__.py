"""Selectors: tokens → :class:`Selection`. One file each; add a line to the table to register another.

A subpackage of stgraph, because a top-level ``selectors`` would shadow the standard library's module of that name.
"""

from ..registry import Registry
from .base import Ranking, Selector
from .selection import Selection, Verdict

SELECTORS: Registry[Selector] = Registry(
    "selector",
    "stgraph.selectors.base:Selector",
    {
        "simdiff": "stgraph.selectors.simdiff:STSimDiff",
        "importance": "stgraph.selectors.ablation:ImportanceOnly",
        "sim_spatial": "stgraph.selectors.ablation:SpatialSimilarity",
        "sim_temporal": "stgraph.selectors.ablation:TemporalSimilarity",
        "sim": "stgraph.selectors.ablation:Similarity",
        "diff": "stgraph.selectors.ablation:DifferenceOnly",
        "random": "stgraph.selectors.random:RandomSelector",
        "uniform": "stgraph.selectors.uniform:UniformSelector",
        "fewer_frames": "stgraph.selectors.downsampling:FewerFrames",
        "pooled_frames": "stgraph.selectors.downsampling:PooledFrames",
        "fewer_pooled_frames": "stgraph.selectors.downsampling:FewerPooledFrames",
        "sequence": "stgraph.selectors.sequence:Sequence",
        "fastv": "stgraph.selectors.fastv:FastV",
        "fastervlm": "stgraph.selectors.fastervlm:FasterVLM",
        "visionzip": "stgraph.selectors.visionzip:VisionZip",
        "prumerge": "stgraph.selectors.prumerge:PruMerge",
        "prumerge_plus": "stgraph.selectors.prumerge:PruMergePlus",
        "framefusion": "stgraph.selectors.framefusion:FrameFusion",
        "evs": "stgraph.selectors.evs:EVSSelector",
        "vidcom2": "stgraph.selectors.vidcom2:VidCom2",
        "divprune": "stgraph.selectors.divprune:DivPrune",
        "dart": "stgraph.selectors.dart:DART",
        "fastvid": "stgraph.selectors.fastvid:FastVID",
        "flashvid_trees": "stgraph.selectors.flashvid_trees:FlashVIDTrees",
        "segment_peaks": "stgraph.selectors.segment_peaks:SegmentPeaks",
        "flashvid": "stgraph.selectors.flashvid:FlashVID",
        "holitom": "stgraph.selectors.holitom:HoliTom",
        "dycoke": "stgraph.selectors.dycoke:DyCoke",
        "prunevid": "stgraph.selectors.prunevid:PruneVid",
        "sttm": "stgraph.selectors.sttm:STTM",
        "dtd": "stgraph.selectors.dtd:DTD",
        "cdpruner": "stgraph.selectors.cdpruner:CDPruner",
        "sparsevlm": "stgraph.selectors.sparsevlm:SparseVLM",
        "pyramiddrop": "stgraph.selectors.pyramiddrop:PyramidDrop",
        "forestprune": "stgraph.selectors.forestprune:ForestPrune",
        "llava_scissor": "stgraph.selectors.llava_scissor:LLaVAScissor",
    },
)

__all__ = ["SELECTORS", "Ranking", "Selection", "Selector", "Verdict"]
