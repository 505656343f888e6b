"""A cache of decoded frames and encoded tokens, for a second run on a clip with other settings.

Entries are named by what they follow from: the content of the file, the settings, and the code and libraries that made
them. So nothing ever has to be declared out of date. They live in ``$STGRAPH_CACHE``, or ``stgraph/clips`` in the
user's cache folder, as safetensors, never pickle. The longest unused go when there is more than :data:`LIMIT`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import zlib
from collections.abc import Mapping
from functools import cache
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

if TYPE_CHECKING:
    from torch import Tensor

    from ..encoders.base import Encoded, Encoder
    from ..video import Video

LIMIT = 2 << 30
"""Bytes that the cache may take."""


class Cache:
    """Entries of tensors and plain data by the digest of what they follow from.

    A cache that cannot be read or written behaves like an empty one, so no run fails because of it.

    Args:
        folder: made when it is first written; :func:`cache_folder` when not given.
        limit: bytes that all entries together may take.
    """

    def __init__(self, folder: str | Path | None = None, limit: int = LIMIT) -> None:
        self.folder = cache_folder() if folder is None else Path(folder)
        self.limit = limit

    def video(self, key: str) -> Video | None:
        """The frames that :meth:`keep_video` stored, or None."""
        from ..video import Video

        entry = self._load(key)
        if entry is None:
            return None
        tensors, record = entry
        frames = tensors["frames"].permute(0, 3, 1, 2)
        return Video(frames, tensors["timestamps"], None, record["duration"], tuple(record["notes"]), _size(record))

    def keep_video(self, key: str, video: Video) -> None:
        """Store frames, their times and what the reader said."""
        record = {"duration": video.duration, "notes": video.notes, "stored_size": video.stored_size}
        pictures = video.frames.permute(0, 2, 3, 1).contiguous()
        self._store(key, {"frames": pictures, "timestamps": video.timestamps}, record)

    def encoded(self, key: str) -> Encoded | None:
        """The tokens and signals that :meth:`keep_encoded` stored, or None."""
        from ..encoders.base import Encoded
        from ..signals import Signals
        from ..tokens import VideoTokens

        entry = self._load(key)
        if entry is None:
            return None
        tensors, record = entry
        features = tensors.pop("features").view(*record["grid"], -1)
        tokens = VideoTokens.from_grid(features, timestamps=(tensors.pop("timestamps"),))
        attention, keys, llm = (tensors.get(name) for name in _SIGNALS)
        return Encoded(tokens, Signals(attention, keys, llm))

    def keep_encoded(self, key: str, encoded: Encoded) -> None:
        """Store the tokens of one video and their signals; none of them where tokens are not one plain grid."""
        tokens, signals = encoded
        if tokens.num_videos != 1 or tokens.num_separators or not tokens.timestamps or tokens.device.type != "cpu":
            return
        given = {name: value for name in _SIGNALS if (value := getattr(signals, name)) is not None}
        tensors = {"features": tokens.features, "timestamps": tokens.timestamps[0], **given}
        self._store(key, tensors, {"grid": list(tokens.grids[0])})

    def _load(self, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        from safetensors import SafetensorError, safe_open

        path = self.folder / f"{key}.safetensors"
        if not _is_private(self.folder):
            return None
        try:
            with safe_open(path, "pt") as file:
                record = json.loads(file.metadata()["record"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            if _checksum(tensors) != record["checksum"]:
                raise ValueError("damaged")
            os.utime(path)
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        return tensors, record

    def _store(self, key: str, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
        from safetensors.torch import save_file

        size = sum(tensor.nbytes for tensor in tensors.values())
        if size > self.limit // 2:
            return
        partial = self.folder / f"{uuid4().hex}.part"
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not _is_private(self.folder):
                return
            contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
            text = json.dumps({**record, "checksum": _checksum(contiguous)})
            save_file(contiguous, partial, {"record": text})
            partial.replace(self.folder / f"{key}.safetensors")
            self._shrink()
        except Exception:  # The run continues without the cache. A full disk is reported when the results are written.
            with contextlib.suppress(OSError):
                partial.unlink()

    def _shrink(self) -> None:
        """Delete the longest unused entries until the rest is within the limit."""
        entries = []
        for path in self.folder.iterdir():
            with contextlib.suppress(OSError):
                state = path.stat()
                entries.append((state.st_mtime, state.st_size, path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total <= self.limit:
                return
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size


def cache_folder() -> Path:
    """``$STGRAPH_CACHE``, else ``stgraph/clips`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    named = os.environ.get("STGRAPH_CACHE")
    if named:
        return Path(named)
    above = os.environ.get("XDG_CACHE_HOME")
    return (Path(above) if above else Path(os.path.expanduser("~")) / ".cache") / "stgraph" / "clips"  # noqa: PTH111


def video_key(path: str | Path, settings: Mapping[str, Any]) -> str:
    """The digest of what decoded frames follow from: the bytes of the file, the settings, the decoder.

    Raises:
        OSError: the file cannot be read.
    """
    import av

    with Path(path).open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    return _digest("frames", content, settings, _code("video"), av.__version__, av.library_versions)


def encoded_key(video: str, encoder: Encoder, config: Mapping[str, Any]) -> str | None:
    """The digest of what tokens follow from: the frames, the encoder with its parameters and weights, the libraries.

    None where that is not known: an encoder from outside stgraph, or weights that are not on this machine.
    """
    weights = encoder.identity()
    if weights is None or not type(encoder).__module__.startswith(f"{__package__.partition('.')[0]}.encoders."):
        return None
    libraries = [_version(name) for name in ("torch", "numpy", "transformers")]
    return _digest("tokens", video, config, weights, _code("encoders"), libraries, platform.machine())


_SIGNALS = ("encoder_attention", "encoder_keys", "llm_attention")


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


@cache
def _code(package: str) -> str:
    """The digest of the source of a package of ours, so that entries of other versions are not used."""
    state = hashlib.sha256()
    for each in sorted(resources.files("stgraph").joinpath(package).iterdir(), key=lambda file: file.name):
        if each.name.endswith(".py"):
            state.update(each.read_bytes())
    return state.hexdigest()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _size(record: Mapping[str, Any]) -> tuple[int, int] | None:
    size = record["stored_size"]
    return None if size is None else (int(size[0]), int(size[1]))


def _checksum(tensors: Mapping[str, Tensor]) -> int:
    """Digest of the bytes of all tensors. It detects a file that is incomplete after a crash of the machine."""
    import torch

    value = 0
    for name in sorted(tensors):
        flat = tensors[name].reshape(-1)
        value = zlib.crc32(flat.view(torch.uint8).numpy().data, value) if flat.numel() else value
    return value


def _is_private(folder: Path) -> bool:
    """Whether nobody but this user can have put anything into the folder."""
    try:
        state = folder.stat()
    except OSError:
        return False
    return not hasattr(os, "getuid") or (state.st_uid == os.getuid() and not state.st_mode & 0o022)
