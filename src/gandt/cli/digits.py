# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo's images: scikit-learn's 1,797 handwritten digits as PNG files, with one class thinned out."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gandt.domain.errors import InvalidInput

RARE_SHARE = 0.02  # of the pool
KNOWN_WANTED = 5
KNOWN_OTHERS = 25
SCALE = 8  # 8 x 8 pixels are too small for a person to label


@dataclass(frozen=True, slots=True)
class DigitTask:
    """What the demo looks for.

    Attributes:
        truth: label by file name, of every image.
        seeds: label by file name, of the images that are known at the start.
    """

    truth: dict[str, str]
    seeds: dict[str, str]


def plan_task(digits: Sequence[int], wanted: Sequence[int], label: str, other: str, seed: int) -> DigitTask:
    """Chooses which images stay and which are known.

    The wanted digits are thinned to RARE_SHARE of the pool, equally where there are several; all others stay.

    Args:
        digits: the digit that each image shows.
        wanted: digits that make up the class `label`.
    Raises:
        InvalidInput: a wanted digit is not one of 0 to 9, or none is wanted.
    """
    if not wanted or not set(wanted) <= set(range(10)):
        raise InvalidInput(f"wanted digits are {list(wanted)}; name some of 0 to 9", field="digit", reason="BAD_DIGIT")
    draw = random.Random(f"digits {sorted(wanted)} {seed}")
    others = [i for i, digit in enumerate(digits) if digit not in wanted]
    keep = max(KNOWN_WANTED + 1, round(RARE_SHARE * len(others) / (1 - RARE_SHARE)) + KNOWN_WANTED)
    share = math.ceil(keep / len(wanted))
    rare: list[int] = []
    for digit in wanted:
        rare += draw.sample([i for i, shown in enumerate(digits) if shown == digit], share)
    rare = rare[:keep]
    draw.shuffle(rare)
    truth = {file_name(i): label for i in rare} | {file_name(i): other for i in others}
    # every mode of the wanted class is known by at least one example
    known = _spread(rare, [digits[i] for i in rare], KNOWN_WANTED)
    seeds = {file_name(i): label for i in known} | {file_name(i): other for i in draw.sample(others, KNOWN_OTHERS)}
    return DigitTask(dict(sorted(truth.items())), seeds)


def _spread(items: list[int], groups: list[int], count: int) -> list[int]:
    """The first `count` items, taken from the groups in turn."""
    queues = {group: [i for i, g in zip(items, groups, strict=True) if g == group] for group in dict.fromkeys(groups)}
    taken: list[int] = []
    while len(taken) < count and any(queues.values()):
        taken += [queue.pop(0) for queue in queues.values() if queue]
    return taken[:count]


def file_name(number: int) -> str:
    """Name of an image; it does not give the digit away."""
    return f"digit-{number:04d}.png"


def write_task(folder: Path, wanted: Sequence[int], label: str, other: str, seed: int) -> DigitTask:
    """Writes images/, truth.csv and seed.csv below `folder`; writing again changes nothing."""
    from PIL import Image
    from sklearn.datasets import load_digits

    from gandt.tables.files import write_rows

    data = load_digits()
    task = plan_task([int(t) for t in data.target], wanted, label, other, seed)
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    for number, pixels in enumerate(data.images):
        target = images / file_name(number)
        if file_name(number) in task.truth and not target.exists():
            gray = (255 - pixels * (255 / 16)).round().astype("uint8")
            picture = Image.fromarray(gray).resize((8 * SCALE, 8 * SCALE), Image.Resampling.BICUBIC)
            picture.save(target.with_suffix(".tmp"), "PNG")
            target.with_suffix(".tmp").replace(target)
    for name, labels in (("truth.csv", task.truth), ("seed.csv", task.seeds)):
        write_rows(str(folder / name), ("image", "label"), ({"image": i, "label": v} for i, v in labels.items()))
    return task
