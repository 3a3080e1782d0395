# SPDX-License-Identifier: GPL-3.0-or-later
"""Calibration: equal to the definitions, silent where there is too little to say, right on planted posteriors."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from gandt.domain.aggregation.calibration import calibrate, tempered
from gandt.domain.errors import InvalidInput


def planted(images: int, temperature: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Posteriors that are honest once they are raised to 1 / temperature, and labels drawn from the honest ones."""
    rng = np.random.default_rng(4)
    honest = rng.dirichlet([1.0, 1.0, 1.0], images)
    truth = (rng.random(images)[:, None] > honest.cumsum(axis=1)).sum(axis=1)
    return tempered(honest, 1 / temperature), truth


def test_brier_and_log_loss_by_hand() -> None:
    found = calibrate(np.array([[0.8, 0.2], [0.6, 0.4]]), np.array([0, 1]))
    assert found.brier == pytest.approx((0.04 + 0.04 + 0.36 + 0.36) / 2)
    assert found.log_loss == pytest.approx(-(np.log(0.8) + np.log(0.4)) / 2)
    assert (found.images, found.error, found.temperature) == (2, None, None)
    assert np.isfinite(calibrate(np.array([[1.0, 0.0]]), np.array([1])).log_loss)


@pytest.mark.parametrize(
    ("images", "temperature", "error"),
    [(299, False, False), (300, True, False), (999, True, False), (1000, True, True)],
)
def test_too_few_images_say_nothing(images: int, temperature: bool, error: bool) -> None:
    found = calibrate(*planted(images, 1.0))
    assert (found.temperature is not None, found.error is not None) == (temperature, error)


@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.0])
def test_a_temperature_is_found_and_mends_posteriors(temperature: float) -> None:
    posterior, truth = planted(4000, temperature)
    found = calibrate(posterior, truth)
    assert found.temperature == pytest.approx(temperature, rel=0.1)
    mended = calibrate(tempered(posterior, found.temperature or 1), truth)
    assert mended.log_loss <= found.log_loss
    assert (mended.error or 0) < 0.04
    assert (posterior.argmax(1) == tempered(posterior, 3).argmax(1)).all()


def test_few_images_pull_the_temperature_to_one() -> None:
    posterior, truth = planted(4000, 2.0)
    few, many = calibrate(posterior[:300], truth[:300]).temperature, calibrate(posterior, truth).temperature
    assert few is not None
    assert many is not None
    assert 1 < few < 2.4


def test_labels_that_do_not_fit_are_refused() -> None:
    for truth in ([2], [-1], [0, 0], []):
        with pytest.raises(InvalidInput):
            calibrate(np.array([[0.5, 0.5]]), np.array(truth, np.int64))
