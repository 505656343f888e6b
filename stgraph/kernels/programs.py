"""The Triton programs of the GPU kernels; :mod:`.gpu` launches them.

Features are read as they are and multiplied in float32; sums of products are spread over the columns of a tile and
added up at the end. Whether float32 may overflow or vanish is known from the norms, and decided for a tile at a time:
such tiles are done again in float64. No result depends on how programs are scheduled.
"""

# Triton's annotations are values, so they are not postponed here; its integers and floats are runtime arguments.
import triton
import triton.language as tl

SAFE_LOW = tl.constexpr(1e-24)
SAFE_HIGH = tl.constexpr(1e24)
GRID_STEPS = tl.constexpr(2.0**20)
ROUNDING = tl.constexpr(1.5 * 2.0**52)
"""Adding it to a float64 and taking it away rounds to a whole number, halves to even."""


@triton.jit
def _unsafe(squared):
    return (squared <= SAFE_LOW) | (squared >= SAFE_HIGH) | (squared != squared)


@triton.jit
def _any(mask):
    return tl.max(mask.to(tl.int32), 0) > 0


@triton.jit
def _cosine(dot, left, right):
    """On the grid of edge weights; 0 where an end is a zero vector."""
    length = left * right
    quotient = tl.where(length > 0, dot / tl.where(length > 0, length, 1.0), 0.0)
    quotient = tl.minimum(tl.maximum(quotient, -1.0), 1.0)
    return (((quotient * GRID_STEPS + ROUNDING) - ROUNDING) / GRID_STEPS).to(tl.float32)


@triton.jit
def _dots(x, left, right, mask, dim, step, ROWS: tl.constexpr, DIM: tl.constexpr, TYPE: tl.constexpr):
    """Dot products of rows that begin at the elements ``left`` and ``right``."""
    sums = tl.zeros((ROWS, DIM), TYPE)
    for start in range(0, dim, DIM):
        k = start + tl.arange(0, DIM)
        inside = mask[:, None] & (k < dim)[None, :]
        shift = (k.to(tl.int64) * step)[None, :]
        a = tl.load(x + left[:, None] + shift, mask=inside, other=0).to(TYPE)
        b = tl.load(x + right[:, None] + shift, mask=inside, other=0).to(TYPE)
        sums += a * b
    return tl.sum(sums, 1)


# -- edges of a dense grid ---------------------------------------------------------------------------------------------


@triton.jit
def lattice_dots(
    x, squared, left, above, before,
    period, height, width, dim, frame_stride, row_stride, column_stride, step,
    WIDTH: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    """Squared norms, and dot products with the token to the left, above and one frame before.

    One program for ``WIDTH`` tokens of a row: they are read from memory, and their neighbours, which programs beside
    this one read, from the cache. Every ``period`` frames a video begins. Places without a neighbour get 0.
    """
    tiles = tl.cdiv(width, WIDTH)
    row = tl.program_id(0).to(tl.int64) // tiles
    column = (tl.program_id(0) % tiles) * WIDTH + tl.arange(0, WIDTH)
    frame, y = row // height, row % height
    inside = column < width
    place = frame * frame_stride + y * row_stride + column.to(tl.int64) * column_stride
    has_left = inside & (column > 0)
    has_above = inside & (column * 0 + y > 0)
    has_before = inside & (column * 0 + frame % period > 0)
    own = tl.zeros((WIDTH, DIM), tl.float32)
    beside = tl.zeros((WIDTH, DIM), tl.float32)
    over = tl.zeros((WIDTH, DIM), tl.float32)
    past = tl.zeros((WIDTH, DIM), tl.float32)
    for start in range(0, dim, DIM):
        k = start + tl.arange(0, DIM)
        real = (k < dim)[None, :]
        at = x + place[:, None] + (k.to(tl.int64) * step)[None, :]
        here = tl.load(at, mask=inside[:, None] & real, other=0).to(tl.float32)
        own += here * here
        beside += here * tl.load(at - column_stride, mask=has_left[:, None] & real, other=0).to(tl.float32)
        over += here * tl.load(at - row_stride, mask=has_above[:, None] & real, other=0).to(tl.float32)
        past += here * tl.load(at - frame_stride, mask=has_before[:, None] & real, other=0).to(tl.float32)
    token = row * width + column
    tl.store(squared + token, tl.sum(own, 1).to(tl.float64), mask=inside)
    tl.store(left + token, tl.sum(beside, 1), mask=inside)
    tl.store(above + token, tl.sum(over, 1), mask=inside)
    tl.store(before + token, tl.sum(past, 1), mask=inside)


@triton.jit
def lattice_cosines(
    x, squared, norm, left, above, before,
    period, height, width, dim, frame_stride, row_stride, column_stride, step,
    WIDTH: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    """Norms, and cosines in place of the dot products that :func:`lattice_dots` left."""
    tiles = tl.cdiv(width, WIDTH)
    row = tl.program_id(0).to(tl.int64) // tiles
    column = (tl.program_id(0) % tiles) * WIDTH + tl.arange(0, WIDTH)
    frame, y = row // height, row % height
    inside = column < width
    token = row * width + column
    place = frame * frame_stride + y * row_stride + column.to(tl.int64) * column_stride
    has_left = inside & (column > 0)
    has_above = inside & (column * 0 + y > 0)
    has_before = inside & (column * 0 + frame % period > 0)
    area = height * width
    own = tl.load(squared + token, mask=inside, other=1)
    own_left = tl.load(squared + token - 1, mask=has_left, other=1)
    own_above = tl.load(squared + token - width, mask=has_above, other=1)
    own_before = tl.load(squared + token - area, mask=has_before, other=1)
    dot_left = tl.load(left + token, mask=inside, other=0).to(tl.float64)
    dot_above = tl.load(above + token, mask=inside, other=0).to(tl.float64)
    dot_before = tl.load(before + token, mask=inside, other=0).to(tl.float64)
    if _any(_unsafe(own) | _unsafe(own_left) | _unsafe(own_above) | _unsafe(own_before)):
        there = place - column_stride
        own = _dots(x, place, place, inside, dim, step, WIDTH, DIM, tl.float64)
        own_left = _dots(x, there, there, has_left, dim, step, WIDTH, DIM, tl.float64)
        dot_left = _dots(x, place, there, has_left, dim, step, WIDTH, DIM, tl.float64)
        there = place - row_stride
        own_above = _dots(x, there, there, has_above, dim, step, WIDTH, DIM, tl.float64)
        dot_above = _dots(x, place, there, has_above, dim, step, WIDTH, DIM, tl.float64)
        there = place - frame_stride
        own_before = _dots(x, there, there, has_before, dim, step, WIDTH, DIM, tl.float64)
        dot_before = _dots(x, place, there, has_before, dim, step, WIDTH, DIM, tl.float64)
    length = tl.sqrt(own)
    tl.store(norm + token, length, mask=inside)
    tl.store(left + token, _cosine(dot_left, length, tl.sqrt(own_left)), mask=inside)
    tl.store(above + token, _cosine(dot_above, length, tl.sqrt(own_above)), mask=inside)
    tl.store(before + token, _cosine(dot_before, length, tl.sqrt(own_before)), mask=inside)


# -- single rows and pairs of them -------------------------------------------------------------------------------------


@triton.jit
def row_norms(x, offset, stride, norm, count, dim, step, ROWS: tl.constexpr, DIM: tl.constexpr):
    """Euclidean norms of rows that begin at the elements ``offset``."""
    place = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = place < count
    row = tl.load(offset + place, mask=inside, other=0) * stride
    squared = _dots(x, row, row, inside, dim, step, ROWS, DIM, tl.float32).to(tl.float64)
    if _any(_unsafe(squared) & inside):
        squared = _dots(x, row, row, inside, dim, step, ROWS, DIM, tl.float64)
    tl.store(norm + place, tl.sqrt(squared), mask=inside)


@triton.jit
def pair_cosines(x, offset, stride, norm, left, right, out, count, dim, step, ROWS: tl.constexpr, DIM: tl.constexpr):
    """Cosines of pairs of vertices; where the left one is −1 nothing is written."""
    place = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = place < count
    a = tl.load(left + place, mask=inside, other=-1)
    inside &= a >= 0
    if _any(inside):
        b = tl.load(right + place, mask=inside, other=0)
        from_a = tl.load(offset + a, mask=inside, other=0) * stride
        from_b = tl.load(offset + b, mask=inside, other=0) * stride
        length_a = tl.load(norm + a, mask=inside, other=1)
        length_b = tl.load(norm + b, mask=inside, other=1)
        dot = _dots(x, from_a, from_b, inside, dim, step, ROWS, DIM, tl.float32).to(tl.float64)
        if _any(_unsafe(length_a * length_a) | _unsafe(length_b * length_b)):
            dot = _dots(x, from_a, from_b, inside, dim, step, ROWS, DIM, tl.float64)
        tl.store(out + place, _cosine(dot, length_a, length_b), mask=inside)


# -- connected components ----------------------------------------------------------------------------------------------


@triton.jit
def _root(parent, vertex, active):
    """The roots of vertices; what another program hooks meanwhile is found by :func:`unite` when it hooks."""
    above = tl.load(parent + vertex, mask=active, other=0, volatile=True)
    climbs = active & (above != vertex)
    while _any(climbs):
        vertex = tl.where(climbs, above, vertex)
        above = tl.load(parent + vertex, mask=climbs, other=0, volatile=True)
        climbs &= above != vertex
    return vertex


@triton.jit
def unite(parent, weight, threshold, count, distance, BLOCK: tl.constexpr):
    """Join every vertex to the one ``distance`` before it where their edge weighs at least ``threshold``.

    Roots are hooked to smaller roots by an atomic minimum. Its result tells a root from a vertex that was hooked in the
    meantime; then what it was hooked to is still to be joined. So the root of a component is its smallest vertex.
    """
    vertex = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    active = (vertex >= distance) & (vertex < count)
    active &= tl.load(weight + vertex, mask=active, other=-2.0) >= threshold
    a, b = vertex, vertex - distance
    while _any(active):
        a, b = _root(parent, a, active), _root(parent, b, active)
        active &= a != b
        high, low = tl.maximum(a, b), tl.minimum(a, b)
        old = tl.atomic_min(parent + high, low, mask=active)
        active &= (old != high) & (old != low)
        a, b = tl.where(active, old, a), tl.where(active, low, b)


@triton.jit
def flatten(parent, root, size, count, BLOCK: tl.constexpr):
    """The root of every vertex, and in ``size`` at every root the number of its vertices."""
    vertex = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = vertex < count
    found = _root(parent, vertex, inside)
    tl.store(root + vertex, found, mask=inside)
    tl.atomic_add(size + found, 1, mask=inside)


# -- centrality in communities -----------------------------------------------------------------------------------------


@triton.jit
def _scales(norm):
    """1 / ‖x‖ as two float32 factors, neither of which takes a feature out of range; zeros stay zeros."""
    inverse = tl.where(norm > 0, 1.0 / tl.where(norm > 0, norm, 1.0), 0.0)
    first = tl.sqrt(inverse).to(tl.float32)
    second = tl.where(inverse > 0, inverse / tl.where(inverse > 0, first.to(tl.float64), 1.0), 0.0).to(tl.float32)
    return first, second


@triton.jit
def _units(x, row, first, second, mask, k, dim, step):
    """A tile of unit vectors in float32."""
    inside = mask[:, None] & (k < dim)[None, :]
    tile = tl.load(x + row[:, None] + (k.to(tl.int64) * step)[None, :], mask=inside, other=0).to(tl.float32)
    return tile * first[:, None] * second[:, None]


@triton.jit
def _mean_of_others(total, norm, size):
    """Mean cosine to the other members, from that to all of them."""
    others = total.to(tl.float64) - tl.where(norm > 0, 1.0, 0.0)
    return tl.minimum(tl.maximum(others / tl.maximum(size - 1, 1).to(tl.float64), -1.0), 1.0).to(tl.float32)


@triton.jit
def small_communities(
    x, offset, stride, norm, order, starts, sizes, out, dim, step,
    LEAST: tl.constexpr, MOST: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    """Centrality in one community of ``LEAST`` to ``MOST`` members, which are read once.

    The product with the sum of all members falls apart into that of each range of features.
    """
    community = tl.program_id(0)
    size = tl.load(sizes + community)
    if (size >= LEAST) & (size <= MOST):
        member = tl.arange(0, MOST)
        mask = member < size
        vertex = tl.load(order + tl.load(starts + community) + member, mask=mask, other=0)
        row = tl.load(offset + vertex, mask=mask, other=0) * stride
        length = tl.load(norm + vertex, mask=mask, other=0)
        first, second = _scales(length)
        total = tl.zeros((MOST,), tl.float32)
        for start in range(0, dim, DIM):
            tile = _units(x, row, first, second, mask, start + tl.arange(0, DIM), dim, step)
            total += tl.sum(tile * tl.sum(tile, 0)[None, :], 1)
        tl.store(out + vertex, _mean_of_others(total, length, size), mask=mask)


@triton.jit
def _chunk(order, labels, sizes, count, CHUNK: tl.constexpr):
    """The vertices of one chunk of ``order``, and those of its first and of its last community where these are large.

    A community of more members than a chunk that reaches into one has its first or its last place.
    """
    begin = tl.program_id(0).to(tl.int64) * CHUNK
    place = begin + tl.arange(0, CHUNK)
    mask = place < count
    vertex = tl.load(order + place, mask=mask, other=0)
    label = tl.load(labels + vertex, mask=mask, other=-1)
    head = tl.load(labels + tl.load(order + begin))
    tail = tl.load(labels + tl.load(order + tl.minimum(begin + CHUNK, count) - 1))
    large = mask & (tl.load(sizes + label, mask=mask, other=0) > CHUNK)
    in_head = large & (label == head)
    in_tail = large & (label == tail) & (label != head)
    return vertex, head, tail, in_head, in_tail


@triton.jit
def large_sums(
    x, offset, stride, norm, order, labels, sizes, partial, count, dim, step, CHUNK: tl.constexpr, DIM: tl.constexpr
):
    """What a chunk adds to the sums of unit vectors of its first and last community: ``partial`` (chunks, 2, d)."""
    vertex, _, _, in_head, in_tail = _chunk(order, labels, sizes, count, CHUNK)
    mask = in_head | in_tail
    if _any(mask):
        k = tl.program_id(1) * DIM + tl.arange(0, DIM)
        row = tl.load(offset + vertex, mask=mask, other=0) * stride
        first, second = _scales(tl.load(norm + vertex, mask=mask, other=0))
        tile = _units(x, row, first, second, mask, k, dim, step)
        to = partial + tl.program_id(0).to(tl.int64) * 2 * dim + k
        tl.store(to, tl.sum(tl.where(in_head[:, None], tile, 0.0), 0), mask=k < dim)
        tl.store(to + dim, tl.sum(tl.where(in_tail[:, None], tile, 0.0), 0), mask=k < dim)


@triton.jit
def large_totals(order, labels, starts, sizes, partial, total, count, dim, CHUNK: tl.constexpr, DIM: tl.constexpr):
    """The sum of the large community that begins in a chunk, from its parts in all chunks: ``total`` (chunks, d)."""
    chunk = tl.program_id(0).to(tl.int64)
    head = tl.load(labels + tl.load(order + chunk * CHUNK))
    tail = tl.load(labels + tl.load(order + tl.minimum(chunk * CHUNK + CHUNK, count) - 1))
    start, size = tl.load(starts + tail), tl.load(sizes + tail)
    if (size > CHUNK) & (start >= chunk * CHUNK):
        k = tl.program_id(1) * DIM + tl.arange(0, DIM)
        part = partial + k
        mask = k < dim
        # As the first community of its first chunk it lies in slot 0, otherwise in slot 1; in all others in slot 0.
        slot = tl.where(tail == head, 0, 1)
        sums = tl.load(part + (chunk * 2 + slot) * dim, mask=mask, other=0).to(tl.float64)
        for other in range(chunk + 1, (start + size - 1) // CHUNK + 1):
            sums += tl.load(part + other * 2 * dim, mask=mask, other=0)
        tl.store(total + chunk * dim + k, sums.to(tl.float32), mask=mask)


@triton.jit
def large_scores(
    x, offset, stride, norm, order, labels, starts, sizes, total, out, count, dim, step,
    CHUNK: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    """Centrality of the members of large communities, from the sums of these."""
    vertex, head, tail, in_head, in_tail = _chunk(order, labels, sizes, count, CHUNK)
    mask = in_head | in_tail
    if _any(mask):
        row = tl.load(offset + vertex, mask=mask, other=0) * stride
        length = tl.load(norm + vertex, mask=mask, other=0)
        first, second = _scales(length)
        head_total = total + tl.load(starts + head) // CHUNK * dim
        tail_total = total + tl.load(starts + tail) // CHUNK * dim
        score = tl.zeros((CHUNK,), tl.float32)
        for begin in range(0, dim, DIM):
            k = begin + tl.arange(0, DIM)
            tile = _units(x, row, first, second, mask, k, dim, step)
            # Where no large community begins or ends here, what is read is not looked at, and made 0 by the tile.
            head_sum = tl.load(head_total + k, mask=k < dim, other=0)
            tail_sum = tl.load(tail_total + k, mask=k < dim, other=0)
            score += tl.sum(tile * tl.where(in_head[:, None], head_sum[None, :], tail_sum[None, :]), 1)
        size = tl.where(in_head, tl.load(sizes + head), tl.load(sizes + tail))
        tl.store(out + vertex, _mean_of_others(score, length, size), mask=mask)
