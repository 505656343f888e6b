"""Encoders: frames → tokens. One file each; add a line to the table to register another."""

from ..registry import Registry
from .base import Encoded, Encoder

ENCODERS: Registry[Encoder] = Registry(
    "encoder",
    "stgraph.encoders.base:Encoder",
    {
        "descriptor": "stgraph.encoders.descriptor:Descriptor",
        "hf": "stgraph.encoders.hf:HuggingFace",
    },
)

__all__ = ["ENCODERS", "Encoded", "Encoder"]
