# SPDX-License-Identifier: GPL-3.0-or-later
"""What a campaign is told: refused when it can never work, completed by defaults."""

from __future__ import annotations

import pytest

from gandt.domain.errors import InvalidInput
from gandt.domain.labeling.campaigns import CampaignSpec, checked
from tests.unit.jobcontroller.world import spec


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "Two Words"}, "must be 1 to 40 characters"),
        ({"name": "a--b"}, "single hyphens"),
        ({"classes": ()}, "no classes"),
        ({"classes": ("a", "A")}, "the same but for case"),
        ({"classes": ("Other",), "other_label": "Other", "target_labels": ()}, "only class"),
        ({"target_labels": ("bird",)}, "not among the classes"),
        ({"workers_per_image": 10}, "workers_per_image is 10"),
        ({"max_workers_per_image": 2}, "max_workers_per_image is 2"),
        ({"gold_fraction": 0.6}, "gold_fraction is 0.6"),
        ({"budget_usd_micros": -1}, "budget_usd_micros is -1"),
        ({"task_time_limit_seconds": 10}, "task_time_limit_seconds is 10"),
    ],
)
def test_specs_that_can_never_work(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        checked(spec(**changes))


def test_defaults_replace_zeros() -> None:
    done = checked(
        CampaignSpec(
            "a",
            ("b",),
            round_size=0,
            group_size=0,
            workers_per_image=0,
            max_workers_per_image=0,
            strategy="",
            method="",
            task_time_limit_seconds=0,
            task_availability_seconds=0,
        )
    )
    assert (done.round_size, done.group_size, done.workers_per_image, done.max_workers_per_image) == (40, 20, 3, 3)
    assert (done.strategy, done.method, done.task_time_limit_seconds) == ("auto", "auto", 900)
