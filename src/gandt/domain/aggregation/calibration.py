# SPDX-License-Identifier: GPL-3.0-or-later
"""How honest posteriors are, measured on images whose label is known and that were drawn at random.

Gold that was picked by hand measures workers, never posteriors: it is easier or harder than the rest. The posteriors
are those of a fit that did not know the labels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gandt.domain.aggregation.trust import Calibration
from gandt.domain.errors import InvalidInput

FEWEST_FOR_ERROR = 1000  # below, bins hold so few images that the error of perfect posteriors looks large
FEWEST_FOR_TEMPERATURE = 300
BINS = 10
SMALLEST = 1e-6  # a posterior of 0 for the right label costs log(1e-6), not infinity
SHRINKAGE = 10.0  # strength of the pull of the log temperature to 0, as a Gaussian's precision


def calibrate(
    posterior: NDArray[np.float64], truth: NDArray[np.integer], images: int | None = None, drawn_at_random: bool = True
) -> Calibration:
    """Measures posteriors against known labels.

    Args:
        posterior: f64[N, K], rows sum to 1.
        truth: i[N] right classes.
        images: how many images the N rows are of, when there are several a row (one a yes-no question); else N.
        drawn_at_random: whether the images were; there is no temperature from others.
    Raises:
        InvalidInput: no image, or a class that does not exist.
    Source:
        G. W. Brier 1950; C. Guo et al. 2017, "On Calibration of Modern Neural Networks".
    """
    n, classes = posterior.shape
    if not n or len(truth) != n or truth.min() < 0 or truth.max() >= classes:
        raise InvalidInput(f"{len(truth)} known labels do not fit {n} posteriors over {classes} classes", field="truth")
    missed = posterior.copy()
    missed[np.arange(n), truth] -= 1
    images = n if images is None else images
    return Calibration(
        images=images,
        brier=float((missed**2).sum(axis=1).mean()),
        log_loss=_log_loss(posterior, truth),
        error=_error(posterior, truth) if images >= FEWEST_FOR_ERROR else None,
        temperature=_temperature(posterior, truth) if drawn_at_random and images >= FEWEST_FOR_TEMPERATURE else None,
        drawn_at_random=drawn_at_random,
    )


def tempered(posterior: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """f64[N, K]: posteriors raised to 1 / temperature; above 1 they become less sure, labels stay."""
    scores = np.log(np.maximum(posterior, SMALLEST)) / temperature
    scores -= scores.max(axis=1, keepdims=True)
    raised = np.exp(scores)
    result: NDArray[np.float64] = raised / raised.sum(axis=1, keepdims=True)
    return result


def _log_loss(posterior: NDArray[np.float64], truth: NDArray[np.integer]) -> float:
    right = posterior[np.arange(len(truth)), truth]
    return float(-np.log(np.maximum(right, SMALLEST)).mean())


def _error(posterior: NDArray[np.float64], truth: NDArray[np.integer]) -> float:
    """Mean gap between confidence and accuracy over bins of equal width, weighed by their images."""
    top = posterior.max(axis=1)
    hit = posterior.argmax(axis=1) == truth
    place = np.minimum((top * BINS).astype(np.int64), BINS - 1)
    gap = np.bincount(place, weights=top - hit, minlength=BINS)
    return float(np.abs(gap).sum() / len(truth))


def _temperature(posterior: NDArray[np.float64], truth: NDArray[np.integer]) -> float:
    """The temperature of least log loss, its logarithm pulled to 0 as if `SHRINKAGE` had been observed."""
    from scipy.optimize import minimize_scalar  # the report measures too, where there may be no SciPy

    def cost(log_temperature: float) -> float:
        loss = _log_loss(tempered(posterior, float(np.exp(log_temperature))), truth)
        return len(truth) * loss + SHRINKAGE / 2 * log_temperature**2

    return float(np.exp(minimize_scalar(cost, bounds=(-2.0, 2.0), method="bounded").x))
