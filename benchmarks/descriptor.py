"""How well do patch descriptors tell same from changed content? The measurements behind docs/descriptor.md.

    python benchmarks/descriptor.py street.mp4 --cuts 29 75 136 186 241 --figure docs/images/descriptor.png
    python benchmarks/descriptor.py animation.mp4
    python benchmarks/descriptor.py  # without a video: made-up scenes

``--cuts`` are the last frames before each cut, counted from 0. Alternatives are compared at an equal operating point:
the bandwidth of each of their Gaussian kernels is fitted, on this very clip, so that as many edges across cuts fall
below 0.2 as with the built-in descriptor at its defaults.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from scipy.stats import rankdata
from torch import Tensor
from torch.nn import functional as F

from stgraph.encoders.descriptor import SAMPLES, Descriptor, measure
from stgraph.video import Video, read_video, write_video

SIMILAR, EVENT = 0.8, 0.2
Encode = Callable[[Tensor], Tensor]  # (3, H, W) uint8 -> (h, w, d)
Similarity = Callable[[Tensor, Tensor], Tensor]


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return F.cosine_similarity(a, b, dim=-1)


def gaussian(bandwidth: float) -> Similarity:
    return lambda a, b: (-((a - b) ** 2).sum(-1) / (2 * bandwidth**2)).exp()


# -- the alternatives -------------------------------------------------------------------------------------------------


def opponent_patches(frame: Tensor, margin: int = 0) -> Tensor:
    """(h, w, 3, s, s) samples of every patch and ``margin`` samples around it, orthonormal opponent colours about 0."""
    rows, columns = Descriptor().grid(*frame.shape[1:])
    size = (rows * SAMPLES, columns * SAMPLES)
    rgb = F.interpolate(frame[None], size=size, mode="bilinear", antialias=True)[0].float() / 255 - 0.5
    axes = F.normalize(torch.tensor([[1.0, 1, 1], [1, 0, -1], [-1, 2, -1]]), dim=1)
    planes = F.pad(torch.einsum("oc,chw->ohw", axes, rgb)[None], (margin,) * 4, mode="replicate")[0]
    side = SAMPLES + 2 * margin
    return planes.unfold(1, side, SAMPLES).unfold(2, side, SAMPLES).permute(1, 2, 0, 3, 4)


def pixels(frame: Tensor) -> Tensor:
    return opponent_patches(frame).flatten(2)


def centred_pixels(frame: Tensor) -> Tensor:
    patches = opponent_patches(frame)
    return (patches - patches.mean((-1, -2), keepdim=True)).flatten(2)


def dct(frame: Tensor) -> Tensor:
    """Cosine transform up to 3 half-waves, each weighted by its frequency to undo the 1/f spectrum of pictures."""
    wave = torch.arange(SAMPLES)
    basis = torch.cos(math.pi * wave[:, None] * (wave + 0.5) / SAMPLES) / SAMPLES
    frequency = (wave[:, None] ** 2 + wave**2).float().sqrt()
    weighted = (basis @ opponent_patches(frame) @ basis.T) * frequency.clamp(min=1)
    return weighted[..., frequency <= 3].flatten(2)


def colour(frame: Tensor) -> Tensor:
    return opponent_patches(frame).mean((-1, -2))


def gradient_histogram(frame: Tensor, floor: float = 0.02) -> Tensor:
    """HOG: eight orientations in 2 × 2 cells, normalised with a floor under the contrast."""
    luminance = opponent_patches(frame, margin=1)[:, :, 0]
    across = (luminance[..., 1:-1, 2:] - luminance[..., 1:-1, :-2]) / 2
    down = (luminance[..., 2:, 1:-1] - luminance[..., :-2, 1:-1]) / 2
    bins = torch.arange(8) * (math.pi / 4)
    facing = (torch.atan2(down, across)[:, :, None] - bins[:, None, None]).cos().clamp(min=0) ** 4
    strength = facing * torch.hypot(across, down)[:, :, None]
    cells = F.avg_pool2d(strength.flatten(0, 1), SAMPLES // 2).unflatten(0, strength.shape[:2]).flatten(2)
    return cells / (cells.norm(dim=-1, keepdim=True) + floor)


def colour_and_histogram(frame: Tensor) -> Tensor:
    return torch.cat([3 * colour(frame), gradient_histogram(frame) / 2], -1)


def measurements(frame: Tensor) -> Tensor:
    """What the descriptor measures, before its random features."""
    return torch.from_numpy(measure(frame, *Descriptor().grid(*frame.shape[1:]))).float()


def centred_measurements(frame: Tensor) -> Tensor:
    """The same about mid-grey, so that its cosine means something."""
    return measurements(frame) - torch.tensor([math.sqrt(3) / 2, 0, 0, 0.2, 0.2, 0.2, 0.2])


def measurements_in_context(frame: Tensor) -> Tensor:
    """With the colours around the patch: 2 × 2 means over 5 × 5 patches."""
    around = opponent_patches(frame, margin=2 * SAMPLES).flatten(0, 1)
    context = F.adaptive_avg_pool2d(around, 2).flatten(1)
    own = measurements(frame)
    return torch.cat([own, context.unflatten(0, own.shape[:2]) / 2], -1)


def described(encoder: Descriptor) -> Encode:
    def one(frame: Tensor) -> Tensor:
        tokens = encoder(Video(frame[None], torch.zeros(1, dtype=torch.float64))).tokens
        _, rows, columns = tokens.grids[0]
        return tokens.features.view(rows, columns, -1)

    return one


ALTERNATIVES: list[tuple[str, Encode, bool]] = [
    ("pixels", pixels, False),
    ("pixels", pixels, True),
    ("pixels without their mean", centred_pixels, False),
    ("pixels without their mean", centred_pixels, True),
    ("whitened DCT", dct, False),
    ("whitened DCT", dct, True),
    ("gradient histogram (HOG)", gradient_histogram, False),
    ("gradient histogram (HOG)", gradient_histogram, True),
    ("mean colour", colour, False),
    ("mean colour", colour, True),
    ("mean colour + HOG", colour_and_histogram, True),
    ("colour + texture", centred_measurements, False),
    ("colour + texture", measurements, True),
    ("colour + texture + context", measurements_in_context, True),
]

SETTINGS: list[dict[str, float]] = [
    {},
    {"bandwidth": 0.14},
    {"bandwidth": 0.17},
    {"bandwidth": 0.25},
    {"bandwidth": 0.3},
    {"dimension": 64},
    {"dimension": 1024},
    {"seed": 1},
    {"seed": 2},
    {"seed": 3},
]


# -- the measurements -------------------------------------------------------------------------------------------------


def encode(frames: Iterable[Tensor], one: Encode) -> Tensor:
    return torch.stack([one(frame) for frame in frames])


def area_under_curve(same: Tensor, changed: Tensor) -> float:
    """Chance that an edge within a shot is more similar than one across a cut."""
    ranks = rankdata(torch.cat([same.flatten(), changed.flatten()]).numpy())
    n, m = same.numel(), changed.numel()
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


class Clip:
    """A video, its cuts, and disturbed copies of some of its frames."""

    def __init__(self, path: str, cuts: list[int]) -> None:
        self.frames = read_video(path, stride=1).frames
        self.cuts = cuts
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "recompressed.mp4"
            write_video(copy, self.frames, 25, quality=28)
            recompressed = read_video(copy, stride=1).frames
        height, width = self.frames.shape[2:]
        some = range(0, len(self.frames), 10)
        self.clean = self.frames[some]
        generator = torch.Generator().manual_seed(0)
        noise = 5 * torch.randn(self.clean.shape, generator=generator)
        self.disturbed = {
            "noise": (self.clean + noise).round().clamp(0, 255).byte(),
            "recompressed": recompressed[some][..., :height, :width],
            "shifted": self.clean.roll(1, dims=3),
        }
        self._paste(generator)

    def _paste(self, generator: torch.Generator) -> None:
        """An object of 3 × 3 patches, taken from a frame half a clip away, at a random place of each clean frame."""
        height, width = self.frames.shape[2:]
        rows, columns = Descriptor().grid(height, width)
        self.pasted = self.clean.clone()
        self.object = torch.zeros(len(self.clean), rows, columns, dtype=torch.bool)
        for picture, source, mask in zip(
            self.pasted, self.clean.roll(len(self.clean) // 2, dims=0), self.object, strict=True
        ):
            row, column = (int(torch.randint(0, n - 2, (), generator=generator)) for n in (rows, columns))
            top, bottom = (round(r * height / rows) for r in (row, row + 3))
            left, right = (round(c * width / columns) for c in (column, column + 3))
            picture[:, top:bottom, left:right] = source.flip(2)[:, top:bottom, left:right]
            mask[row : row + 3, column : column + 3] = True
        near = F.max_pool2d(self.object.float()[:, None], 3, stride=1, padding=1)[:, 0] > 0
        self.neighbours = near & ~self.object

    def across_cut(self, chosen: Tensor) -> Tensor:
        """(T − 1,) bool for the frames numbered ``chosen``: does a cut lie between a frame and the next?"""
        cuts = torch.tensor(self.cuts, dtype=torch.int64)
        return ((chosen[:-1, None] <= cuts) & (cuts < chosen[1:, None])).any(1)


def temporal(features: Tensor, similarity: Similarity) -> Tensor:
    return similarity(features[1:], features[:-1])


def fitted_bandwidth(features: Tensor, clip: Clip, share: float) -> float:
    """The bandwidth at which ``share`` of the edges across cuts fall below the event threshold."""
    across = clip.across_cut(torch.arange(len(features)))
    distance = (features[1:] - features[:-1])[across].norm(dim=-1).flatten()
    return float(distance.quantile(1 - share)) / math.sqrt(-2 * math.log(EVENT))


def samplings(count: int) -> dict[str, Tensor]:
    return {
        "every frame": torch.arange(count),
        "every 2nd": torch.arange(0, count, 2),
        "64 frames": torch.linspace(0, count - 1, min(64, count)).long(),
    }


def row(clip: Clip, one: Encode, features: Tensor, similarity: Similarity) -> list[str]:
    def share(condition: Tensor) -> str:
        return f"{100 * condition.float().mean():.1f}" if condition.numel() else "–"

    edges = temporal(features, similarity)
    across = clip.across_cut(torch.arange(len(features)))
    within, changed = edges[~across], edges[across]
    spatial = torch.cat(
        [
            similarity(features[:, 1:], features[:, :-1]).flatten(),
            similarity(features[:, :, 1:], features[:, :, :-1]).flatten(),
        ]
    )
    clean = encode(clip.clean, one)
    disturbed = [similarity(clean, encode(copy, one)).flatten().quantile(0.05) for copy in clip.disturbed.values()]
    pasted = similarity(clean, encode(clip.pasted, one))
    cells = [
        f"{area_under_curve(within, changed):.3f}" if clip.cuts else "–",
        share(within >= SIMILAR),
        share(within < EVENT),
        share(changed < EVENT),
        share(spatial >= SIMILAR),
        *(f"{value:.2f}" for value in disturbed),
        share(pasted[clip.object] < EVENT),
        share(pasted[clip.neighbours] >= SIMILAR),
    ]
    for chosen in samplings(len(features)).values():
        across = clip.across_cut(chosen)
        events = (temporal(features[chosen], similarity) < EVENT).sum((1, 2))
        cells.append(f"{events[across].min() if clip.cuts else '–'} / {events[~across].max()}")
    return cells


COLUMNS = [
    "patch",
    "similarity",
    "AUC",
    "within ≥ 0.8 %",
    "within < 0.2 %",
    "across < 0.2 %",
    "spatial ≥ 0.8 %",
    "noise σ 5",
    "H.264 crf 28",
    "1 px shift",
    "object < 0.2 %",
    "beside it ≥ 0.8 %",
    "events, every frame",
    "every 2nd",
    "64 frames",
]


def print_row(*cells: str) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


def print_table(clip: Clip) -> Tensor:
    """Print the rows of all alternatives and of the descriptor's settings; its features at the defaults."""
    descriptor = described(Descriptor())
    started = time.perf_counter()
    own = encode(clip.frames, descriptor)
    seconds = time.perf_counter() - started
    changed = temporal(own, cosine)[clip.across_cut(torch.arange(len(own)))]
    print_row(*COLUMNS)
    print_row(*["---"] * len(COLUMNS))
    for name, one, kernel in ALTERNATIVES:
        if kernel and not clip.cuts:
            continue
        features = encode(clip.frames, one)
        bandwidth = fitted_bandwidth(features, clip, float((changed < EVENT).float().mean())) if kernel else 0.0
        similarity = gaussian(bandwidth) if kernel else cosine
        label = f"Gaussian {bandwidth:.2f}" if kernel else "cosine"
        print_row(name, label, *row(clip, one, features, similarity))
    for setting in SETTINGS:
        one = described(Descriptor(**setting))  # type: ignore[arg-type]
        label = ", ".join(f"{key} {value}" for key, value in setting.items()) or "defaults"
        print_row("**Descriptor**", label, *row(clip, one, encode(clip.frames, one), cosine))
    print(f"\nDescriptor: {1000 * seconds / len(own):.2f} ms a frame, on {torch.get_num_threads()} threads.")
    return own


def made_up_texture(seed: int, tint: tuple[float, float, float], height: int = 272, width: int = 640) -> Tensor:
    """(3, H, W) float from 40 to 200 times ``tint``, with structure at all scales."""
    generator = torch.Generator().manual_seed(seed)
    octaves = [
        F.interpolate(torch.rand(1, 1, n, 2 * n, generator=generator), size=(height, width), mode="bicubic") / n**0.5
        for n in (4, 8, 16, 32, 64)
    ]
    grey = torch.stack(octaves).sum(0)[0]
    grey = (grey - grey.min()) / (grey.max() - grey.min())
    return (40 + 160 * grey) * torch.tensor(tint)[:, None, None]


def print_scenes() -> None:
    """Cosines of the tokens of each frame with those of the frame before, over all tokens of a scene."""
    one = described(Descriptor())
    generator = torch.Generator().manual_seed(0)
    street, sea, street_elsewhere = (
        made_up_texture(seed, tint) for seed, tint in ((1, (1, 0.9, 0.7)), (2, (0.6, 0.8, 1)), (3, (1, 0.9, 0.7)))
    )
    entered = street.clone()
    entered[:, 60:180, 200:320] = torch.tensor([200.0, 30, 30])[:, None, None]
    sky = torch.linspace(150, 220, 272)[None, :, None].expand(3, 272, 640)
    fade = torch.linspace(0, 1, 26)[:, None, None, None]

    def noisy(frame: Tensor) -> Tensor:
        return frame + 5 * torch.randn(frame.shape, generator=generator)

    scenes: dict[str, Iterable[Tensor]] = {
        **{f"flat {level}, noise σ 5": (noisy(torch.full_like(sky, level)) for _ in range(2)) for level in (0, 128)},
        "texture, noise σ 5": (noisy(street) for _ in range(2)),
        **{f"brightness + {step}": (street, street + step) for step in (10, 20, 30, 40, 60)},
        "fade to black in 1 s": (1 - fade) * street,
        "dissolve in 1 s": (1 - fade) * street + fade * sea,
        **{f"pan by {pixels} px": (street, street.roll(pixels, dims=2)) for pixels in (1, 8, 16, 32)},
        "cut to other colours": (street, sea),
        "cut, the same colours": (street, street_elsewhere),
    }
    print_row("scene", "lowest", "5 % quantile", "median", "highest")
    print_row(*["---"] * 5)

    def print_cosines(scene: str, cosines: Tensor) -> None:
        values = cosines.flatten().quantile(torch.tensor([0, 0.05, 0.5, 1]))
        print_row(scene, *(f"{value:.2f}" for value in values))

    def features(frames: Iterable[Tensor]) -> Tensor:
        return encode((frame.round().clamp(0, 255).byte() for frame in frames), one)

    for scene, frames in scenes.items():
        inside = slice(2, -2) if scene.startswith("pan") else slice(None)  # the pan wraps around at the sides
        print_cosines(scene, temporal(features(frames)[:, :, inside], cosine))
    clear = features([sky])[0]
    print_cosines("sky, neighbours", cosine(clear[1:], clear[:-1]))
    enters = temporal(features([street, entered]), cosine)[0]
    print_cosines("object enters, its 4 × 4 patches", enters[2:6, 7:11])
    enters[2:6, 7:11] = 1
    print_cosines("object enters, elsewhere", enters)


def draw(clip: Clip, features: Tensor, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    edges = temporal(features, cosine)
    across = clip.across_cut(torch.arange(len(features)))
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(10, 3.4), layout="constrained", gridspec_kw={"width_ratios": [1, 1.6]}
    )
    groups = [("within a shot", edges[~across], "#4477aa"), ("across a cut", edges[across], "#cc3311")]
    for label, values, tint in groups:
        weights = torch.full((values.numel(),), 100 / values.numel()).numpy()
        left.hist(
            values.flatten().numpy(), bins=48, range=(-0.2, 1), weights=weights, alpha=0.65, label=label, color=tint
        )
    for threshold, name in ((EVENT, "event"), (SIMILAR, "similar")):
        left.axvline(threshold, color="black", linewidth=0.8, linestyle=":")
        left.text(threshold, 60, f" {name}\n {threshold}", fontsize=8, va="top")
    left.set(yscale="log", ylim=(0.05, 100), xlabel="cosine of temporal edges", ylabel="% of the edges (log)")
    left.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    frames = torch.arange(1, len(features))
    events = (edges < EVENT).sum((1, 2))
    colours = ["#cc3311" if cut else "#4477aa" for cut in across.tolist()]
    right.bar(frames.numpy(), events.numpy(), width=1.0 if len(frames) > 100 else 0.8, color=colours)
    right.set(xlabel="frame", ylabel=f"event tokens of {edges[0].numel()}", xlim=(0, len(features)))
    right.set_title("red: the first frame after a cut", fontsize=9)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", nargs="?")
    parser.add_argument("--cuts", type=int, nargs="*", default=[], help="the last frame before each cut")
    parser.add_argument("--figure", type=Path, help="where to save the picture")
    arguments = parser.parse_args()
    if arguments.video is None:
        print_scenes()
        return
    clip = Clip(arguments.video, arguments.cuts)
    features = print_table(clip)
    if arguments.figure:
        draw(clip, features, arguments.figure)


if __name__ == "__main__":
    main()
