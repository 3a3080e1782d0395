# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole small world for the controller: fakes of every peer, a manual clock, and workers that know the truth."""

from __future__ import annotations

import functools
import hashlib
import itertools
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gandt_jobcontroller.service.controller import JobController
from gandt_jobcontroller.service.parts import Parts
from gandt_jobcontroller.service.peers import (
    AggregationAnswer,
    AggregationQuestion,
    EmbeddingModel,
    Peers,
    SelectionAnswer,
    SelectionQuestion,
)
from gandt_jobcontroller.service.places import Places

from gandt.adapters.memory_clock import ManualClock, MemoryMeter
from gandt.adapters.memory_labeling import MemoryLabeling
from gandt.adapters.memory_objects import MemoryObjects
from gandt.adapters.pillow_images import PillowImages
from gandt.adapters.sql_jobs import SqlJobs
from gandt.domain.aggregation.records import MethodInfo
from gandt.domain.catalog import CatalogFile, CatalogImage, WorkerRecord
from gandt.domain.datasets import LabelEstimate, LabelStatus
from gandt.domain.errors import NotFound
from gandt.domain.labeling.campaigns import CampaignSpec
from gandt.domain.labeling.rounds import Pick
from gandt.domain.search_records import Collection
from gandt.domain.selection.records import StrategyInfo

PLACES = Places(
    bucket="gandt",
    job_prefix="gt-",
    role_arn="arn:aws:iam::000000000000:role/gandt",
    workteam_arn="arn:aws:sagemaker:local-1:000000000000:workteam/private-crowd/gandt",
    pre_lambda_arn="arn:aws:lambda:local-1:000000000000:function:gandt-pre-LabelingFunction",
    post_lambda_arn="arn:aws:lambda:local-1:000000000000:function:gandt-post-LabelingFunction",
)


@functools.cache
def empty_database() -> bytes:
    """A database with the newest schema; migrating each anew would take most of the tests' time."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "controller.db"
        SqlJobs(f"sqlite:///{path}").close()
        return path.read_bytes()


class Killed(BaseException):
    """The process is gone: nothing of the program may catch it."""


class Selector:
    """Picks the first images by id that are neither labeled nor excluded; the last ones are the control draw."""

    def __init__(self, pool: Callable[[], Sequence[str]]) -> None:
        self._pool = pool
        self.questions: list[SelectionQuestion] = []
        self.listed = 0  # how often the names were asked for

    def strategies(self) -> list[StrategyInfo]:
        self.listed += 1
        return [StrategyInfo(name, "", needs_targets=name == "find-more") for name in ("find-more", "first", "random")]

    def select(self, question: SelectionQuestion) -> SelectionAnswer:
        self.questions.append(question)
        known = {image.image_id for image in question.labeled} | set(question.excluded)
        free = [image_id for image_id in self._pool() if image_id not in known]
        chosen = free[: question.count]
        main = len(chosen) - round(len(chosen) * question.control_fraction)
        picks = [
            Pick(i, rank, 1.0 / rank, "first", "main" if rank <= main else "control", 1.0, len(free))
            for rank, i in enumerate(chosen, 1)
        ]
        return SelectionAnswer(tuple(picks), "first", "in order")


class Aggregator:
    """Plain majority; an image wants more while its best label has no two thirds of the votes."""

    def __init__(self) -> None:
        self.listed = 0  # how often the names were asked for

    def methods(self) -> list[MethodInfo]:
        self.listed += 1
        names = ("dawid-skene", "majority", "one-only", "two-coin")
        return [MethodInfo(name, "", name != "one-only", "", name == "two-coin") for name in names]

    def aggregate(self, question: AggregationQuestion) -> AggregationAnswer:
        gold = {label.image_id for label in question.gold}
        votes = self._votes(question)
        estimates = [self._estimate(i, counts, question) for i, counts in votes.items() if i not in gold]
        people = Counter(answer.worker_id for answer in question.answers)
        workers = tuple(WorkerRecord(w, n, 0.9, 0.8, 1.0, -1.0, "reliable") for w, n in sorted(people.items()))
        return AggregationAnswer(tuple(estimates), workers, "majority")

    def wants_more(self, question: AggregationQuestion, max_answers: int) -> set[str]:
        votes = self._votes(question)
        return {
            i
            for i, counts in votes.items()
            if counts.total() < max_answers and max(counts.values()) * 3 < counts.total() * 2
        }

    def _votes(self, question: AggregationQuestion) -> dict[str, Counter[tuple[str, ...]]]:
        votes: dict[str, Counter[tuple[str, ...]]] = {}
        for answer in question.answers:
            if answer.labels:
                votes.setdefault(answer.image_id, Counter())[answer.labels] += 1
        return votes

    def _estimate(
        self, image_id: str, counts: Counter[tuple[str, ...]], question: AggregationQuestion
    ) -> LabelEstimate:
        top = max(counts.values())
        best = sorted(labels for labels, n in counts.items() if n == top)
        status = LabelStatus.TIED if len(best) > 1 else LabelStatus.CERTAIN
        if status is LabelStatus.CERTAIN and counts.total() < question.min_answers:
            status = LabelStatus.UNCERTAIN
        labels = tuple(name for chosen in best for name in chosen)
        return LabelEstimate(image_id, labels, top / counts.total(), status, counts.total(), top)


class Vectors:
    """Collections of vectors by name, without near-duplicates."""

    def __init__(self) -> None:
        self.collections = {"images_1": Collection("images_1", 4, "hog-1", 30, 1)}
        self.aliases: dict[str, str] = {}

    def describe(self, collection: str) -> Collection:
        if collection not in self.collections:
            raise NotFound(f"there is no collection {collection}")
        return self.collections[collection]

    def point_alias(self, alias: str, collection: Collection) -> None:
        self.aliases[alias] = collection.name

    def near_groups(self, collection: str) -> dict[str, str]:
        return {}


class Embedder:
    """One model at a time."""

    def __init__(self) -> None:
        self.model_id = "hog-1"

    def model(self, model_id: str) -> EmbeddingModel:
        return EmbeddingModel(self.model_id, "hog", 4)


class NoEmbedding:
    """Embedding jobs that are only noted."""

    def __init__(self) -> None:
        self.started: list[str] = []

    def start(self, embedding_job_id: str) -> None:
        self.started.append(embedding_job_id)

    def unsaid_failure(self, embedding_job_id: str) -> str:
        return ""

    def close(self) -> None:
        """Nothing runs."""


@dataclass
class World:
    """Everything around one controller; `restart` puts a new controller over the same store, objects and backend."""

    folder: Path
    kill_at: tuple[str, int] = ("", 0)
    clock: ManualClock = field(default_factory=ManualClock)
    meter: MemoryMeter = field(default_factory=MemoryMeter)

    def __post_init__(self) -> None:
        self.objects = MemoryObjects(self.clock.now)
        self.backend = MemoryLabeling(self.objects)
        self.selector = Selector(lambda: self.image_ids)
        self.aggregator = Aggregator()
        self.embedding_jobs = NoEmbedding()
        self.vectors, self.embedder = Vectors(), Embedder()
        self.image_ids: list[str] = []
        self.truth: dict[str, str] = {}
        self._ids = itertools.count(1)
        self._passed: Counter[str] = Counter()
        self._open()

    def restart(self) -> None:
        """A new controller, as after a crash."""
        self.store.close()
        self._open()

    def _open(self) -> None:
        database = self.folder / "controller.db"
        if not database.exists():
            database.write_bytes(empty_database())
        self.store = SqlJobs(f"sqlite:///{database}")
        self.parts = Parts(
            store=self.store,
            objects=self.objects,
            backend=self.backend,
            peers=Peers(self.selector, self.aggregator, self.vectors, self.embedder),
            inspector=PillowImages(),
            embedding_jobs=self.embedding_jobs,
            places=PLACES,
            clock=self.clock,
            meter=self.meter,
            template=lambda: b"<crowd-form></crowd-form>",
            work_url=lambda: "http://127.0.0.1:8080/work",
            new_id=lambda prefix: f"{prefix}-{next(self._ids)}",
            checkpoint=self._checkpoint,
        )
        self.controller = JobController(self.parts, "me", poll_seconds=1.0, dataset="images")

    def _checkpoint(self, name: str) -> None:
        self._passed[name] += 1
        if (name, self._passed[name]) == self.kill_at:
            raise Killed(name)

    @property
    def checkpoints(self) -> Counter[str]:
        """How often each point was passed."""
        return self._passed

    def add_images(self, count: int, embedded: bool = True) -> list[str]:
        """Images in the catalog, every third a cat and the others dogs."""
        made = []
        for number in range(len(self.image_ids), len(self.image_ids) + count):
            image_id = hashlib.sha256(f"image {number}".encode()).hexdigest()
            made.append((image_id, f"s3://photos/a/{number:03d}.jpg"))
            self.truth[image_id] = "cat" if number % 3 == 0 else "dog"
        self.store.add_folder("s3://photos/")
        images = [CatalogImage(i, 8, 8, "JPEG", 100, f"s3://gandt/thumbs/{i}.jpg") for i, _ in made]
        self.store.record_files(images, [CatalogFile(uri, 100, "e", i) for i, uri in made])
        if embedded:
            self.store.set_fact("collection", "images_1")
            self.store.mark_embedded("images_1", [i for i, _ in made])
        self.image_ids += [i for i, _ in made]
        return [i for i, _ in made]

    def say(self, worker: str, image_id: str) -> Sequence[str]:
        """What a worker says: the truth, but for the third worker, who calls every fifth image wrong."""
        right = self.truth[image_id]
        wrong = worker == "w3" and int(image_id[:4], 16) % 5 == 0
        return [("dog" if right == "cat" else "cat") if wrong else right]

    def work(self, say: Callable[[str, str], Sequence[str] | None] | None = None) -> None:
        """Workers answer every open job: w1 to w3 the first page, w4 for w1 on the others, somebody new a repeat."""
        for job in list(self.backend.jobs.values()):
            if job.status.state.is_final:
                continue
            first = job.request.tags["gandt:round"]
            asked = sum(o.request.tags["gandt:round"] == first for o in self.backend.jobs.values())
            team = [f"w{n}" for n in range(2, job.request.workers + 1)]
            for page in range(len(job.lines)):
                others = [f"{letter}{asked}" for letter in "xyz"[: job.request.workers]]
                names = ["w4" if page else "w1", *team] if asked == 1 else others
                self.backend.label(job.request.job_name, names, say or self.say, page)
            self.backend.end(job.request.job_name)

    def run(self, steps: int = 200, say: Callable[[str, str], Sequence[str] | None] | None = None) -> None:
        """The loop and the workers in turn until nothing changes any more."""
        for _ in range(steps):
            changed = self.controller.loop.run_once()
            self.work(say)
            self.clock.advance(61)
            if not changed and not self.store.open_campaigns():
                return
        raise AssertionError(f"the campaign did not end: {self.store.list_campaigns(0, 1)}")


def spec(**changes: object) -> CampaignSpec:
    """Cats among dogs, ten images a round, on pages of four."""
    fields: dict[str, object] = {
        "name": "pets",
        "classes": ("cat", "dog"),
        "target_labels": ("cat",),
        "budget_usd_micros": 100_000_000,
        "price_per_page_usd_micros": 36_000,
        "fee_per_page_usd_micros": 80_000,
        "round_size": 10,
        "group_size": 4,
        "control_fraction": 0.0,
        **changes,
    }
    return CampaignSpec(**fields)  # type: ignore[arg-type]
