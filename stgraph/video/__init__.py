"""Videos: sampled frames of a file, how they are read, and a writer.

A file is opened (``opening``), indexed without decoding (``index``), sampled by time (``sampling``), and just the
packets that the sampled frames need are decoded (``packets``, ``decoding``). ``reading`` puts these steps together.
"""

from .decoding import Progress
from .opening import check_file
from .reading import read_blocks, read_video
from .sampling import DEFAULT_FRAMES, ROUNDING, choose_frames
from .video import Video
from .writing import write_video

__all__ = [
    "DEFAULT_FRAMES",
    "ROUNDING",
    "Progress",
    "Video",
    "check_file",
    "choose_frames",
    "read_blocks",
    "read_video",
    "write_video",
]
