"""Similarities and clusters in float64, for methods whose published choices hang on small differences.

Numbers are rounded to 36 binary digits before they are compared: that is finer than any difference that the authors'
float32 code can see, and coarse enough that equal tokens are equal on every machine and thread count.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..kernels import round_to

FINE = 2.0**-36
"""Cosines and other numbers of size 1 are compared in steps of this."""

BLOCK = 1 << 22
"""Similarities held at a time: 16 MB of float32."""

TERMS = 512
"""Terms of a cosine that are summed at a time in float32, which bounds its rounding error."""


def fine(value: Tensor) -> Tensor:
    """``value`` rounded to multiples of :data:`FINE`, float64: for numbers of size 1, such as cosines."""
    return round_to(value, FINE)


def fine_digits(value: Tensor) -> Tensor:
    """``value`` rounded to 36 binary digits, float64: for numbers of any size, such as distances and scores."""
    mantissa, exponent = torch.frexp(value.double())
    return torch.ldexp(round_to(mantissa, FINE), exponent)


def unit64(x: Tensor) -> Tensor:
    """(n, d) float64 unit vectors of the rows of any size; zero rows stay zero."""
    wide = x.double()
    length = torch.linalg.vector_norm(wide, dim=1, keepdim=True)
    return wide / torch.where(length > 0, length, 1.0)


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """(n, m) float64 cosines of the rows of ``a`` (n, d) and ``b`` (m, d), fit to be compared."""
    return fine(unit64(a) @ unit64(b).T)


def pair_cosines(a: Tensor, b: Tensor) -> Tensor:
    """(n,) float64 cosine of each row of ``a`` (n, d) with the same row of ``b``, fit to be compared."""
    return fine((unit64(a) * unit64(b)).sum(1))


class Directions:
    """Directions of many vectors, whose cosines are screened in float32 and decided in float64.

    Attributes:
        unit: (n, d) float64 unit vectors.
        error: bound on the rounding error of :meth:`rough`.
    """

    def __init__(self, x: Tensor) -> None:
        """Take the rows of ``x`` (n, d) of any size."""
        self.unit = unit64(x)
        # Where float32 products are allowed to be of fewer digits there is nothing to screen with.
        whole = torch.get_float32_matmul_precision() == "highest"
        self._rough = self.unit.to(torch.float32) if whole else self.unit
        dim = x.shape[1]
        # One rounding for each term of a part, for each sum of parts, and for the numbers themselves.
        self.error = (min(dim, TERMS) + dim // TERMS + 4) * 2.0**-24 + FINE

    def __len__(self) -> int:
        return len(self.unit)

    def rough(self, rows: slice, other: Directions, columns: slice) -> Tensor:
        """(rows, columns) cosines to within ``error``."""
        a, b = self._rough[rows], other._rough[columns]
        found = a[:, :TERMS] @ b[:, :TERMS].T
        for begin in range(TERMS, a.shape[1], TERMS):
            found.addmm_(a[:, begin : begin + TERMS], b[:, begin : begin + TERMS].T)
        return found

    def pairs(self, rows: Tensor, other: Directions, columns: Tensor) -> Tensor:
        """(p,) float64 cosines of pairs, fit to be compared."""
        step = max(1, BLOCK // self.unit.shape[1])
        parts = zip(rows.split(step), columns.split(step), strict=True)
        found = [fine((self.unit[i] * other.unit[j]).sum(1)) for i, j in parts]
        return torch.cat(found) if found else self.unit.new_empty(0)


def squared_distances(x: Tensor) -> Tensor:
    """(n, n) float64 squared Euclidean distances of the rows of ``x`` (n, d), divided by d; 0 for equal rows."""
    wide = x.double()
    scale = wide.abs().amax().clamp(min=torch.finfo(torch.float64).tiny)
    wide = wide / scale  # numbers of any size
    squared = wide.square().sum(1)
    apart = squared[:, None] + squared[None] - 2 * (wide @ wide.T)
    apart = round_to(apart, FINE * float(squared.amax().clamp(min=FINE))).clamp_(min=0).fill_diagonal_(0)
    return apart * scale.square() / x.shape[1]


class DensityPeaks(NamedTuple):
    """What :func:`density_peaks` knows of n tokens before it is told how many clusters there are.

    Attributes:
        order: (n,) int64, the tokens by falling score: the first m are the centres of m clusters.
        squared: (n, n) float64 squared distances.
    """

    order: Tensor
    squared: Tensor

    def clusters(self, count: int) -> tuple[Tensor, Tensor]:
        """(m,) int64 centres, by falling score, and (n,) int64 the cluster of each token: that of the nearest centre.

        Of equally near centres the one of the higher score; every centre is in its own cluster.
        """
        centres = self.order[:count]
        member = self.squared[:, centres].argmin(1)
        member[centres] = torch.arange(len(centres), device=member.device)
        return centres, member


def density_peaks(x: Tensor, nearest: int) -> DensityPeaks:
    """Clusters by density peaks with nearest neighbours (DPC-kNN), as FlashVID, FastVID, HoliTom and PruneVid use it.

    Density is exp(−mean of the ``nearest`` smallest squared distances), the token itself among them; a token's score is
    its density times the distance to anything denser, for the densest the largest distance of all. Densities and scores
    are compared by their logarithms, which do not vanish where distances are large.

    Departure from the authors' code: it adds a random number below 10⁻⁶ to each density. Without it equal scores go to
    the smaller index.

    Args:
        x: (n, d) raw features.
        nearest: k; of fewer than k tokens all count.
    """
    squared = squared_distances(x)
    sparse = fine_digits(squared.sort(1).values[:, : min(nearest, len(x))].mean(1))  # −log of the density
    denser = sparse[None] < sparse[:, None]
    gap = squared.masked_fill(~denser, torch.inf).amin(1)
    gap = torch.where(denser.any(1), gap, squared.amax())
    score = fine_digits(gap.log() / 2 - sparse)
    return DensityPeaks(torch.sort(score, stable=True, descending=True).indices, squared)
