"""The built-in descriptor: what it measures, how its cosine behaves, and that it is the same to the bit everywhere."""

import math
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from stgraph.encoders import ENCODERS
from stgraph.encoders.descriptor import TEXTURE_FLOOR, Descriptor, measure
from stgraph.errors import StgraphError
from stgraph.signals import Signals
from stgraph.video import Video, read_video, write_video

HEIGHT, WIDTH = 120, 200
RED = torch.tensor([200, 30, 30], dtype=torch.uint8)[:, None, None]


def encode(frames: Tensor, **parameters: float) -> Tensor:
    """(T, h, w, d) features."""
    tokens = Descriptor(**parameters)(Video(frames, torch.arange(len(frames), dtype=torch.float64))).tokens
    return tokens.features.view(*tokens.grids[0], -1)


def similarity(before: Tensor, after: Tensor) -> Tensor:
    """(h, w) cosine of the tokens of two (3, H, W) frames."""
    features = encode(torch.stack([before, after]))
    return F.cosine_similarity(features[0], features[1], dim=-1)


def picture(seed: int, tint: tuple[float, float, float], height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    """A smooth random texture with structure at all scales, as photographs have."""
    generator = torch.Generator().manual_seed(seed)
    scales = [
        F.interpolate(torch.rand(1, 1, n, 2 * n, generator=generator), size=(height, width), mode="bilinear") / n**0.5
        for n in (2, 4, 8, 16, 32, 64)
    ]
    grey = torch.stack(scales).sum(0)[0]
    grey = 40 + 160 * (grey - grey.min()) / (grey.max() - grey.min())
    return (grey * torch.tensor(tint)[:, None, None]).byte()


def noisy(frame: Tensor, seed: int, sigma: float = 5) -> Tensor:
    noise = sigma * torch.randn(frame.shape, generator=torch.Generator().manual_seed(seed))
    return (frame + noise).round().clamp(0, 255).byte()


STREET = picture(1, (1.0, 0.9, 0.7))
SEA = picture(2, (0.2, 0.5, 1.0))


# -- what it is -------------------------------------------------------------------------------------------------------


def test_measurements_equal_their_definition_pixel_by_pixel() -> None:
    rows, columns = 2, 3
    frame = torch.randint(0, 256, (3, 8 * rows, 8 * columns), generator=torch.Generator().manual_seed(0)).byte()
    rgb = np.pad(frame.double().numpy() / 255, ((0, 0), (5, 5), (5, 5)), mode="edge")
    window = np.round(128 * (1 - np.cos((np.arange(16) + 0.5) * np.pi / 8)))
    window /= window.sum()
    luminance = rgb.sum(0) / math.sqrt(3)

    def inside(value: int, limit: int) -> int:
        return min(max(value, 5), limit + 4)  # gradients beyond the border repeat those at the border

    for row in range(rows):
        for column in range(columns):
            expected = np.zeros(7)
            for i, j in np.ndindex(16, 16):
                y, x = inside(8 * row + i + 1, 8 * rows), inside(8 * column + j + 1, 8 * columns)
                red, green, blue = rgb[:, y, x]
                across = (luminance[y, x + 1] - luminance[y, x - 1]) / 2
                down = (luminance[y + 1, x] - luminance[y - 1, x]) / 2
                slopes = [across, (across + down) / math.sqrt(2), down, (across - down) / math.sqrt(2)]
                colours = [luminance[y, x], red - blue, (2 * green - red - blue) / math.sqrt(3)]
                expected += window[i] * window[j] * np.array(colours + [abs(slope) for slope in slopes])
            expected[3:] = np.sqrt(2 * (expected[3:] + TEXTURE_FLOOR))
            np.testing.assert_allclose(measure(frame, rows, columns)[row, column], expected, atol=1e-12)


@pytest.mark.parametrize(("dimension", "bandwidth"), [(256, 0.2), (2048, 0.2), (2048, 0.5)])
def test_cosine_is_the_gaussian_kernel_of_the_measurements(dimension: int, bandwidth: float) -> None:
    encoder = Descriptor(dimension=dimension, bandwidth=bandwidth)
    rows, columns = encoder.grid(HEIGHT, WIDTH)
    frames = torch.stack([STREET, SEA])
    measured = torch.from_numpy(np.concatenate([measure(frame, rows, columns).reshape(-1, 7) for frame in frames]))
    kernel = (-(torch.cdist(measured, measured) ** 2) / (2 * bandwidth**2)).exp()
    features = encode(frames, dimension=dimension, bandwidth=bandwidth).flatten(0, 2).double()
    error = features @ features.T - kernel
    assert error.abs().max() < 5 / math.sqrt(dimension)
    assert error.square().mean().sqrt() < 1.5 / math.sqrt(dimension)


def test_black_frame_by_hand() -> None:
    """Only the texture floor is left: every phase is √(2 · 0.005) = 0.1 times the sum of four frequencies."""
    frequencies = np.random.RandomState(3).standard_normal((7, 4)) / 0.2
    phase = 0.1 * frequencies[3:].sum(0)
    expected = np.stack([np.cos(phase), np.sin(phase)], 1).ravel() / 2
    features = encode(torch.zeros(1, 3, 40, 40, dtype=torch.uint8), dimension=8, seed=3)
    np.testing.assert_allclose(features.reshape(-1, 8).numpy(), np.tile(expected, (196, 1)), atol=1e-5)


def test_tokens_carry_grid_and_timestamps_and_there_are_no_signals() -> None:
    timestamps = torch.tensor([0.5, 0.75], dtype=torch.float64)
    encoded = Descriptor()(Video(torch.stack([STREET, SEA]), timestamps))
    assert encoded.tokens.grids == ((2, 11, 18),)
    assert encoded.tokens.features.shape == (2 * 11 * 18, 256)
    assert encoded.tokens.features.dtype == torch.float32
    assert encoded.tokens.timestamps is not None
    assert torch.equal(encoded.tokens.timestamps[0], timestamps)
    assert [getattr(encoded.signals, field.name) for field in fields(Signals)] == [None] * len(fields(Signals))


@pytest.mark.parametrize(
    ("tokens", "height", "width", "grid"),
    [
        (196, 384, 384, (14, 14)),
        (196, 720, 1280, (10, 20)),
        (196, 1280, 720, (19, 10)),
        (196, 272, 640, (9, 22)),
        (196, 1, 1, (14, 14)),
        (196, 1, 100_000, (1, 196)),
        (196, 100_000, 1, (196, 1)),
        (1, 720, 1280, (1, 1)),
    ],
)
def test_grid(tokens: int, height: int, width: int, grid: tuple[int, int]) -> None:
    assert Descriptor(tokens_per_frame=tokens).grid(height, width) == grid


@given(st.integers(16, 1000), st.integers(100, 2000), st.integers(100, 2000))
def test_patches_are_near_square_and_as_many_as_asked_for(tokens: int, height: int, width: int) -> None:
    if not 1 / 4 <= height / width <= 4:
        height = width
    rows, columns = Descriptor(tokens_per_frame=tokens).grid(height, width)
    assert abs(rows * columns - tokens) <= rows / 2
    assert 1 / 2 < (height / rows) / (width / columns) < 2


def test_registered_with_its_parameters() -> None:
    encoder = ENCODERS.build({"name": "descriptor", "tokens_per_frame": 50, "bandwidth": 1})
    assert encoder == Descriptor(tokens_per_frame=50, bandwidth=1.0)
    assert ENCODERS.build(ENCODERS.config(encoder)) == encoder


# -- the same everywhere ----------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 50),
    width=st.integers(1, 50),
    tokens=st.integers(1, 64),
    seed=st.integers(0, 9),
    data=st.data(),
)
def test_any_size_gives_finite_unit_vectors_that_depend_on_their_frame_only(
    height: int, width: int, tokens: int, seed: int, data: st.DataObject
) -> None:
    frames = torch.randint(0, 256, (4, 3, height, width), generator=torch.Generator().manual_seed(seed)).byte()
    order = data.draw(st.permutations(range(4)))
    together = encode(frames, tokens_per_frame=tokens)
    assert together.isfinite().all()
    torch.testing.assert_close(together.norm(dim=-1), torch.ones(together.shape[:3]))
    assert torch.equal(encode(frames[order], tokens_per_frame=tokens), together[order])
    assert torch.equal(encode(frames[2:3], tokens_per_frame=tokens), together[2:3])


def test_same_bits_for_any_thread_count_and_memory_layout() -> None:
    frames = torch.stack([noisy(picture(n, (1.0, 0.8, 0.6), 270, 479), n) for n in range(4)])
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3, 7):
            torch.set_num_threads(count)
            results.append(encode(frames))
    finally:
        torch.set_num_threads(threads)
    interleaved = frames.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert all(torch.equal(result, results[0]) for result in [*results, encode(interleaved), encode(frames)])


@pytest.mark.parametrize("level", [0, 1, 16, 128, 254, 255])
def test_flat_frames_are_all_one_vector(level: int) -> None:
    features = encode(torch.full((2, 3, 61, 47), level, dtype=torch.uint8))
    assert torch.equal(features, features[:1, :1, :1].expand_as(features))
    torch.testing.assert_close(features[0, 0, 0].norm(), torch.tensor(1.0))


def test_resolution_hardly_matters() -> None:
    fine = picture(1, (1.0, 0.9, 0.7), 4 * HEIGHT, 4 * WIDTH)
    coarse = F.interpolate(fine[None], size=(2 * HEIGHT, 2 * WIDTH), mode="bilinear", antialias=True)
    assert F.cosine_similarity(encode(fine[None]), encode(coarse), dim=-1).min() > 0.95


# -- same content, changed content ------------------------------------------------------------------------------------


@pytest.mark.parametrize("frame", [STREET, SEA, torch.full_like(STREET, 128), torch.zeros_like(STREET)])
def test_sensor_noise_stays_similar(frame: Tensor) -> None:
    assert similarity(noisy(frame, 1), noisy(frame, 2)).min() > 0.9


def test_one_pixel_shift_stays_similar() -> None:
    assert similarity(STREET, STREET.roll(1, dims=2))[:, 1:-1].min() > 0.9


def test_recompression_stays_similar(tmp_path) -> None:
    frames = torch.stack([noisy(STREET, n, sigma=2) for n in range(5)])
    write_video(tmp_path / "clip.mp4", frames, 25, quality=28)
    decoded = read_video(tmp_path / "clip.mp4", stride=1).frames
    assert decoded.shape == frames.shape
    assert F.cosine_similarity(encode(frames), encode(decoded), dim=-1).quantile(0.05) > 0.8


def test_cut_marks_most_tokens() -> None:
    across = similarity(STREET, SEA)
    assert (across < 0.2).float().mean() > 0.8
    assert across.max() < 0.8


def test_sky_is_one_region() -> None:
    sky = torch.linspace(150, 220, HEIGHT)[None, :, None] * torch.tensor([0.7, 0.85, 1.0])[:, None, None]
    features = encode(noisy(sky.expand(3, HEIGHT, WIDTH), 0, sigma=3)[None])[0]
    for a, b in ((features[1:], features[:-1]), (features[:, 1:], features[:, :-1])):
        assert F.cosine_similarity(a, b, dim=-1).min() > 0.8


def test_object_that_enters_marks_its_own_tokens_only() -> None:
    rows, columns = Descriptor().grid(HEIGHT, WIDTH)
    bounds = [round(n * HEIGHT / rows) for n in (4, 7)] + [round(n * WIDTH / columns) for n in (5, 9)]
    entered = STREET.clone()
    entered[:, bounds[0] : bounds[1], bounds[2] : bounds[3]] = RED
    cosine = similarity(noisy(STREET, 1, sigma=3), noisy(entered, 2, sigma=3))
    inside = torch.zeros(rows, columns, dtype=torch.bool)
    inside[4:7, 5:9] = True
    assert cosine[inside].max() < 0.2
    assert cosine[~inside].min() > 0.2
    untouched = ~(F.max_pool2d(inside.float()[None], 3, stride=1, padding=1)[0] > 0)
    assert cosine[untouched].min() > 0.8


def test_texture_alone_is_seen_without_a_change_of_colour() -> None:
    squares = (torch.arange(HEIGHT)[:, None] // 4 + torch.arange(WIDTH) // 4) % 2
    board = (255 * squares).byte().expand(3, HEIGHT, WIDTH)
    assert similarity(board, torch.full_like(STREET, 128)).max() < 0.2


def test_flash_is_an_event_and_a_slow_fade_is_not() -> None:
    flash = (STREET.int() + 70).clamp(max=255).byte()
    assert similarity(STREET, flash).max() < 0.2
    weight = torch.linspace(0, 1, 26)[:, None, None, None]
    fade = encode(((1 - weight) * STREET + weight * SEA).byte())
    assert F.cosine_similarity(fade[1:], fade[:-1], dim=-1).min() > 0.8
    assert (F.cosine_similarity(fade[0], fade[-1], dim=-1) < 0.2).float().mean() > 0.8


def test_events_concentrate_at_cuts() -> None:
    """Three shots under a slow pan: the two frames after a cut hold the event tokens, the others none."""
    shots = [
        picture(n, tint, HEIGHT, 2 * WIDTH) for n, tint in enumerate([(1, 0.9, 0.7), (0.2, 0.5, 1), (0.6, 1, 0.3)])
    ]
    frames = [noisy(shot[:, :, 2 * step : 2 * step + WIDTH], step, sigma=3) for shot in shots for step in range(6)]
    features = encode(torch.stack(frames))
    events = (F.cosine_similarity(features[1:], features[:-1], dim=-1) < 0.2).sum((1, 2))
    cuts = [5, 11]
    assert events[cuts].min() > 100
    assert events.sum() == events[cuts].sum()


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"tokens_per_frame": 0}, "tokens_per_frame must be a whole number ≥ 1 and ≤ 16384, got 0"),
        ({"tokens_per_frame": 2.5}, "tokens_per_frame must be a whole number"),
        ({"dimension": 7}, "dimension must be even"),
        ({"dimension": 0}, "dimension must be a whole number ≥ 2 and ≤ 16384, got 0"),
        ({"bandwidth": 0}, "bandwidth must be a number ≥ 0.01 and ≤ 10, got 0"),
        ({"bandwidth": float("nan")}, "bandwidth must be a number ≥ 0.01"),
        ({"seed": -1}, "seed must be a whole number ≥ 0"),
        ({"seed": 2**32}, "seed must be a whole number ≥ 0 and <"),
    ],
)
def test_parameters_out_of_range(parameters: dict[str, float], words: str) -> None:
    with pytest.raises(StgraphError, match=words):
        Descriptor(**parameters)
