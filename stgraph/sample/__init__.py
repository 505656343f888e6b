"""Sample clips with known events: painted landscapes in which something happens at a known time and place.

:func:`render_sample` writes the clip of the demo; :func:`render_events` paints clips with one kind of event each, to
score change detectors kind by kind. Everything is procedural and the same for the same seed.
"""

from .events import KINDS, Box, Kind, SampleEvent, event_tokens, load_events, save_events
from .rendering import EventClip, Sample, render_events, render_sample

__all__ = [
    "KINDS",
    "Box",
    "EventClip",
    "Kind",
    "Sample",
    "SampleEvent",
    "event_tokens",
    "load_events",
    "render_events",
    "render_sample",
    "save_events",
]
