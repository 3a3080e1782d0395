# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo's loop on the pure core alone, for many seeds: what a harsh crowd does to it, and what helps.

    python benchmarks/harsh_crowd.py [--seeds 60] [--first-page any|worst] [--remedy NAME ...] [--method auto]

Real images and the real selection, aggregation and repeats; no services. A campaign reaches the goal when 80 % of the
wanted images are found with at most a tenth of the labels that random choice needs.
"""

from __future__ import annotations

import argparse
import io
import math
import random
from collections import Counter
from dataclasses import dataclass, field
from statistics import fmean, median

import numpy as np

from gandt.adapters.torch_hog import TorchHog
from gandt.cli.digits import file_name, plan_task
from gandt.cli.simulated import crowd
from gandt.domain.aggregation.aggregate import Aggregation, aggregate
from gandt.domain.aggregation.answer_table import AnswerTableBuilder
from gandt.domain.aggregation.chunks import AnswerEncoder
from gandt.domain.aggregation.plan import plan_answers
from gandt.domain.aggregation.records import AUTO, AggregateSpec, PlanSpec
from gandt.domain.datasets import Answer, LabeledImage, LabelStatus
from gandt.domain.images import image_id_of
from gandt.domain.labeling.pages import pack_pages
from gandt.domain.labeling.rounds import Tally, repeats
from gandt.domain.labeling.simulated_worker import SimWorker
from gandt.domain.report.figures import RECALL_GOAL
from gandt.domain.report.random_choice import expected_draws
from gandt.domain.selection.pool import MemoryRows, Pool, unit_rows
from gandt.domain.selection.records import SelectSpec
from gandt.domain.selection.selecting import Known, select
from gandt.domain.selection.space import space_of
from gandt.domain.selection.steps import finish
from gandt.domain.selection.training import merged, training_set

WANTED, OTHER = "wanted", "Other"
PAGE, WORKERS, MOST = 20, 3, 5  # images a page; workers an image at first and at most
TRUSTED = (LabelStatus.CERTAIN, LabelStatus.UNCERTAIN)
TASKS = ((3,), (5, 8))


@dataclass(frozen=True)
class Remedy:
    """What is done about wrong labels.

    Attributes:
        earlier: doubtful images of earlier rounds are asked again.
        gold: seeds shown as gold on each page; a round has that many images fewer, so that it is one page.
        target: probability below which an image is asked again.
        perfect: workers who never err, for comparison.
    """

    earlier: bool = False
    gold: int = 0
    target: float = 0.95
    perfect: bool = False


REMEDIES = {
    "none": Remedy(),
    "earlier": Remedy(earlier=True),  # what the product does
    "target-99": Remedy(target=0.99),
    "gold-2": Remedy(gold=2),
    "gold-2-earlier": Remedy(gold=2, earlier=True),
    "perfect": Remedy(perfect=True),
}


class Digits:
    """The demo's images and vectors, and the space that rankings work in."""

    def __init__(self) -> None:
        from PIL import Image
        from sklearn.datasets import load_digits

        data, hog = load_digits(), TorchHog(torch_threads=1)
        self.shown = [int(digit) for digit in data.target]
        self.ids, rows = [], []
        for pixels in data.images:
            gray = (255 - pixels * (255 / 16)).round().astype("uint8")
            png = io.BytesIO()
            Image.fromarray(gray).resize((64, 64), Image.Resampling.BICUBIC).save(png, "PNG")
            self.ids.append(image_id_of(png.getvalue()))
            rows.append(hog.embed([hog.prepare(png.getvalue())])[0])
        self.vectors = np.stack(rows)
        self.units = unit_rows(self.vectors)
        self.space = space_of(self.units)
        self.row = {image: row for row, image in enumerate(self.ids)}


@dataclass
class Campaign:
    """One campaign at work; `run` takes it to its end."""

    data: Digits
    wanted: tuple[int, ...]
    seed: int
    remedy: Remedy
    worst_first: bool
    method: str = AUTO
    answers: list[Answer] = field(default_factory=list)
    rounds: list[list[tuple[str, bool]]] = field(default_factory=list)  # images and whether they are control
    pages: int = 0

    def __post_init__(self) -> None:
        task = plan_task(self.data.shown, self.wanted, WANTED, OTHER, self.seed)
        by_name = {file_name(number): image for number, image in enumerate(self.data.ids)}
        self.truth = {by_name[name]: label for name, label in task.truth.items()}
        self.seeds = {by_name[name]: label for name, label in task.seeds.items()}
        self.rng = random.Random(f"pages {self.seed}")
        self.team = crowd(self.seed)
        if self.remedy.perfect:
            self.team = [SimWorker(worker.name, self.seed, accuracy=1.0) for worker in self.team]
        self.seen: dict[str, set[str]] = {worker.name: set() for worker in self.team}
        self.gold = self.rng.sample(sorted(self.seeds), len(self.seeds)) if self.remedy.gold else []
        self.labels: dict[str, tuple[tuple[str, ...], float, LabelStatus]] = {}

    def run(self) -> None:
        """Rounds until two in a row find nothing, as in the demo."""
        while len(self.rounds) < 2 or any(self._yield(images) >= 0.05 for images in self.rounds[-2:]):
            picked = self._select()
            if not picked:
                return
            self.rounds.append(picked)
            self._ask([image for image, _ in picked], WORKERS)
            while self._repeat():
                pass

    def _select(self) -> list[tuple[str, bool]]:
        known = {image: LabeledImage(image, (label,), 1.0) for image, label in self.seeds.items()}
        for image, (labels, confidence, status) in self.labels.items():
            if status in TRUSTED and labels:
                known[image] = LabeledImage(image, labels, confidence)
        asked = {image for images in self.rounds for image, _ in images}
        ids = [image for image in self.truth if image not in known and image not in asked]
        rows = MemoryRows()
        rows.append(self.data.vectors[[self.data.row[image] for image in ids]])
        labeled = merged(known.values())
        training = training_set(labeled, list(labeled), self.data.units[[self.data.row[image] for image in labeled]])
        spec = SelectSpec(
            target_labels=(WANTED,),
            other_label=OTHER,
            count=PAGE - self.remedy.gold,
            seed=self.seed,
            round=len(self.rounds) + 1,
        )
        result = finish(select(spec, Pool(ids, rows), Known(training, space=self.data.space)))
        return [(pick.image_id, pick.arm == "control") for pick in result.picks]

    def _ask(self, images: list[str], workers: int) -> None:
        """Pages by workers drawn at random; nobody is shown an image twice."""
        for page in pack_pages(images, PAGE - self.remedy.gold):
            tiles = page + [self.gold.pop() for _ in range(min(self.remedy.gold, len(self.gold)))]
            able = [worker for worker in self.team if not self.seen[worker.name].issuperset(page)]
            worst = self.worst_first and not self.answers
            for worker in self.team[-workers:] if worst else self.rng.sample(able, min(workers, len(able))):
                self.pages += 1
                for image in tiles:
                    if image not in self.seen[worker.name]:
                        choice = worker.choose(image, (self.truth[image],), (WANTED,), OTHER, False)
                        self.answers.append(Answer(image, worker.name, choice.labels))
                self.seen[worker.name].update(tiles)

    def _repeat(self) -> bool:
        """Aggregates; asks again what is doubtful, and says whether it did."""
        result = self._aggregated()
        self.labels = {v.image_id: (v.labels, v.confidence, v.status) for v in result.items() if not v.gold}
        plan = PlanSpec(result.spec, target_confidence=self.remedy.target, max_answers=MOST)
        wants = {image.image_id for image in plan_answers(result, plan).images}
        count = Counter(answer.image_id for answer in self.answers)

        def tallies(images: list[tuple[str, bool]]) -> list[Tally]:
            return [Tally(image, count[image], count[image], image in wants) for image, _ in images]

        earlier = [one for images in self.rounds[:-1] for one in images] if self.remedy.earlier else []
        room = PAGE - self.remedy.gold
        met = len({answer.worker_id for answer in self.answers})
        again = repeats(tallies(self.rounds[-1]), WORKERS, MOST, None, tallies(earlier), room, met)
        before = len(self.answers)
        for group in again.groups:
            self._ask(list(group.image_ids), group.workers)
        return len(self.answers) > before

    def _aggregated(self) -> Aggregation:
        table = AnswerTableBuilder()
        for chunk in AnswerEncoder().encode(self.answers):
            table.add(chunk)
        asked = {answer.image_id for answer in self.answers}
        gold = {image: (label,) for image, label in self.seeds.items() if image in asked}
        return aggregate(table.build(), AggregateSpec(self.method, classes=(WANTED, OTHER)), gold, check=lambda: None)

    def _yield(self, images: list[tuple[str, bool]]) -> float:
        main = [image for image, is_control in images if not is_control]
        return sum(WANTED in self.labels[image][0] for image in main) / max(len(main), 1)

    def outcome(self) -> dict[str, float]:
        """Figures of the campaign."""
        right = self._right()
        positives = sum(label == WANTED for image, label in self.truth.items() if image not in self.seeds)
        goal = math.ceil(RECALL_GOAL * positives)
        reached = next((n for n in range(1, len(right) + 1) if sum(right[:n]) >= goal), 0)
        limit = expected_draws(len(self.truth) - len(self.seeds), positives, goal) / 10
        asked = [image for images in self.rounds for image, _ in images]
        return {
            "found": bool(reached),
            "goal": 0 < reached <= limit,
            "labels to 80 %": reached or math.inf,
            "labels": len(asked),
            "answers": len(self.answers),
            "pages": self.pages,
            "accuracy": fmean(self.labels[image][0] == (self.truth[image],) for image in asked),
        }

    def _right(self) -> list[bool]:
        """Whether each label, in the order of the report, is a wanted image called wanted."""
        ordered = [image for images in self.rounds for image, _ in sorted(images, key=lambda one: not one[1])]
        return [self.truth[image] == WANTED and WANTED in self.labels[image][0] for image in ordered]


def main() -> None:
    """Prints one line a remedy and task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=60)
    parser.add_argument("--first-page", choices=["any", "worst"], default="any", help="who gets the first page")
    parser.add_argument("--remedy", choices=sorted(REMEDIES), nargs="*", default=["none", "earlier"])
    parser.add_argument("--method", default=AUTO, help="of aggregation")
    args = parser.parse_args()
    data = Digits()
    for name in args.remedy:
        for wanted in TASKS:
            outcomes = []
            for seed in range(args.seeds):
                campaign = Campaign(data, wanted, seed, REMEDIES[name], args.first_page == "worst", args.method)
                campaign.run()
                outcomes.append(campaign.outcome())
            text = (
                " ".join(f"{key} {sum(o[key] for o in outcomes)}/{args.seeds}" for key in ("found", "goal"))
                + f" labels to 80 % {median(o['labels to 80 %'] for o in outcomes):.0f}"
            )
            for key in ("labels", "answers", "pages"):
                text += f" {key} {fmean(o[key] for o in outcomes):.1f}"
            accuracy = [o["accuracy"] for o in outcomes]
            print(
                f"{name:14} {wanted!s:7} {text} accuracy {fmean(accuracy):.3f}, worst {min(accuracy):.3f}", flush=True
            )


if __name__ == "__main__":
    main()
