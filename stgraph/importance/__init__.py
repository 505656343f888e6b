"""Importance: what candidates are trimmed by. Add a class and a line to the table to register another."""

from ..registry import Registry
from .base import Evidence, Importance

IMPORTANCES: Registry[Importance] = Registry(
    "importance",
    "stgraph.importance.base:Importance",
    {
        "auto": "stgraph.importance.auto:Auto",
        "llm_attention": "stgraph.importance.attention:LanguageModelAttention",
        "encoder_attention": "stgraph.importance.attention:EncoderAttention",
        "apportionment": "stgraph.importance.graph:Apportionment",
        "centrality": "stgraph.importance.graph:Centrality",
        "change": "stgraph.importance.graph:Change",
        "distinctness": "stgraph.importance.graph:Distinctness",
        "novelty": "stgraph.importance.graph:Novelty",
        "norm": "stgraph.importance.graph:Norm",
        "random": "stgraph.importance.graph:RandomImportance",
    },
)

__all__ = ["IMPORTANCES", "Evidence", "Importance"]
