# SPDX-License-Identifier: GPL-3.0-or-later
"""The original's aggregation, count for count: every answer is a row, whoever gave it and however often.

Rewritten from the behavior of the original G&T (Popsa, GPL-3.0; `reference` cases in the golden tests), defects
included: rows are counted instead of workers, a repeated label counts twice, an empty answer stays in the denominator,
decoys are never found, and a worker without a certain image is dropped with all answers. Where the original crashes,
this raises a domain error with the reason. `docs/reference/compat-aggregation.md` lists what the default does instead.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gandt.domain.errors import WrongState

LABELS_PER_EXPERIMENT = 20


@dataclass(frozen=True, slots=True)
class CompatAnswer:
    """One row of the original's raw responses; `labels` may be empty and may repeat."""

    job: str
    image: str
    worker: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CompatImage:
    """The original's statistics of one image in one job.

    Attributes:
        workers: worker of each row, in order, repeated ones too.
        labels: labels of all rows, one after another.
        majority: all labels with the top count, by code point.
        top: the top count; `rows` number of rows (the original's no_eligible_workers).
        certain: top >= min_answers and top > min_proportion * rows.
        worker_quality: 1 where the worker's last row holds a majority label, else 0; empty unless certain.
    """

    image: str
    job: str
    workers: tuple[str, ...]
    labels: tuple[str, ...]
    majority: tuple[str, ...]
    top: int
    rows: int
    certain: bool
    worker_quality: Mapping[str, int] = field(default_factory=dict)

    @property
    def all_same(self) -> bool:
        """Whether only one label occurs; empty rows do not matter."""
        return len(set(self.labels)) == 1

    @property
    def description(self) -> str:
        """As `a, b (certain)` or `a (need relabelling)`."""
        return f"{', '.join(self.majority)} ({'certain' if self.certain else 'need relabelling'})"

    @property
    def verbose(self) -> str:
        """As `a (2 / 3), b (2 / 3)`."""
        return ", ".join(f"{label} ({self.top} / {self.rows})" for label in self.majority)


@dataclass(frozen=True, slots=True)
class CompatWorker:
    """The original's reliability of one worker.

    Attributes:
        mean: share of certain images on which the worker agrees with the majority, in [0, 1].
        count: certain images divided by `LABELS_PER_EXPERIMENT`, rounded down.
        scored: certain images.
        reliable: mean > threshold, strictly.
    """

    worker: str
    mean: float
    count: int
    scored: int
    reliable: bool


@dataclass(frozen=True, slots=True)
class CompatResult:
    """What filter_out_unreliable_workers returns: both frames sorted by (image, job), and the workers."""

    unfiltered: tuple[CompatImage, ...]
    filtered: tuple[CompatImage, ...]
    workers: tuple[CompatWorker, ...]


def summarize_image(answers: Sequence[CompatAnswer], min_answers: int = 2, min_proportion: float = 0.5) -> CompatImage:
    """The original's get_summary_stats_for_image. Decoys are no argument: it never finds one.

    Raises:
        WrongState: no row (NO_ANSWERS), or only empty answers (ONLY_EMPTY_ANSWERS); the original crashes.
    """
    if not answers:
        raise _no_rows()
    labels = tuple(label for answer in answers for label in answer.labels)
    if not labels:
        raise WrongState(
            f"image {answers[0].image!r} of job {answers[0].job!r} has only empty answers, on which the original "
            "crashes (IndexError)",
            kind="image",
            id=answers[0].image,
            reason="ONLY_EMPTY_ANSWERS",
            fix="drop empty answers first, or aggregate without --compat",
        )
    counts = Counter(labels)
    top = max(counts.values())
    majority = tuple(sorted(label for label, count in counts.items() if count == top))
    certain = top >= min_answers and top > min_proportion * len(answers)
    quality: dict[str, int] = {}
    if certain:
        for answer in answers:  # a worker's later row replaces the earlier one
            quality[answer.worker] = int(any(label in majority for label in answer.labels))
    return CompatImage(
        image=answers[0].image,
        job=answers[0].job,
        workers=tuple(answer.worker for answer in answers),
        labels=labels,
        majority=majority,
        top=top,
        rows=len(answers),
        certain=certain,
        worker_quality=quality,
    )


def score_workers(
    qualities: Iterable[Mapping[str, int]],
    threshold: float = 0.8,
    labels_per_experiment: int = LABELS_PER_EXPERIMENT,
) -> tuple[CompatWorker, ...]:
    """The original's get_workers_reliability over the worker qualities of all experiments, this one's first.

    Returns:
        One record a worker with at least one certain image, by first appearance; others are absent.
    """
    scores: defaultdict[str, list[int]] = defaultdict(list)
    for quality in qualities:
        for worker, agreed in quality.items():
            scores[worker].append(agreed)
    return tuple(
        CompatWorker(
            worker=worker,
            mean=sum(agreed) / len(agreed),
            count=len(agreed) // labels_per_experiment,
            scored=len(agreed),
            reliable=sum(agreed) / len(agreed) > threshold,
        )
        for worker, agreed in scores.items()
    )


def filter_unreliable(
    answers: Sequence[CompatAnswer],
    previous: Sequence[Sequence[CompatAnswer]] = (),
    threshold: float = 0.8,
    min_answers: int = 2,
    min_proportion: float = 0.5,
    include_previous: bool = False,
) -> CompatResult:
    """The original's filter_out_unreliable_workers.

    Args:
        answers: rows of this experiment.
        previous: rows of each earlier experiment.
        threshold: reliability that a worker must exceed.
        min_answers, min_proportion: when an image is certain.
        include_previous: also label the earlier rows, filed under the first job of this experiment.
    Raises:
        WrongState: no row (NO_ANSWERS), no earlier experiment to include (NO_PREVIOUS_ANSWERS), an image with only
            empty answers (ONLY_EMPTY_ANSWERS), or no certain image at all (NOBODY_CERTAIN); the original crashes.
    """
    if not answers or any(not rows for rows in previous):
        raise _no_rows()
    unfiltered = _summarize(answers, min_answers, min_proportion)
    earlier = [_summarize(rows, min_answers, min_proportion) for rows in previous]
    workers = score_workers(
        (image.worker_quality for frame in (unfiltered, *earlier) for image in frame), threshold=threshold
    )
    rows = list(answers)
    if include_previous:
        if not previous:
            raise WrongState(
                "there are no earlier answers to include, on which the original crashes (ValueError)",
                kind="answers",
                reason="NO_PREVIOUS_ANSWERS",
                fix="name them with --previous FILE, or leave --include-previous out",
            )
        job = answers[0].job
        rows += [CompatAnswer(job, row.image, row.worker, row.labels) for frame in previous for row in frame]
        unfiltered = [*unfiltered, *(image for frame in earlier for image in frame)]
    if not workers:
        raise WrongState(
            "no image is certain, so no worker can be measured, on which the original crashes (MergeError)",
            kind="answers",
            reason="NOBODY_CERTAIN",
            fix="collect more answers, or aggregate without --compat",
        )
    kept = _summarize(_join(rows, workers), min_answers, min_proportion)
    return CompatResult(tuple(unfiltered), tuple(kept), workers)


def _summarize(rows: Sequence[CompatAnswer], min_answers: int, min_proportion: float) -> list[CompatImage]:
    """Statistics a group, by (image, job) in code-point order; rows keep their order within a group."""
    groups: defaultdict[tuple[str, str], list[CompatAnswer]] = defaultdict(list)
    for row in rows:
        groups[row.image, row.job].append(row)
    return [summarize_image(groups[key], min_answers, min_proportion) for key in sorted(groups)]


def _join(rows: Sequence[CompatAnswer], workers: Sequence[CompatWorker]) -> list[CompatAnswer]:
    """Rows of reliable workers, worker by worker in order of first appearance.

    The original's inner join (pandas 1.0) groups by worker; it shows in the order of workers and labels of an image.
    """
    reliable = {worker.worker for worker in workers if worker.reliable}
    groups: defaultdict[str, list[CompatAnswer]] = defaultdict(list)
    for row in rows:
        if row.worker in reliable:
            groups[row.worker].append(row)
    return [row for group in groups.values() for row in group]


def _no_rows() -> WrongState:
    return WrongState(
        "there are no answers, on which the original crashes (KeyError)",
        kind="answers",
        reason="NO_ANSWERS",
        fix="give at least one answer",
    )
