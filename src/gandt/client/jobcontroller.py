# SPDX-License-Identifier: GPL-3.0-or-later
"""Typed client of the job controller: domain records in and out, domain errors raised."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from gandt.client.connection import Channel
from gandt.domain.catalog import CatalogImage, EmbeddingJob, LabelKind, StoredLabel, WorkerRecord
from gandt.domain.datasets import Answer
from gandt.domain.labeling.campaigns import Campaign, CampaignSpec, StopRule
from gandt.domain.labeling.jobs import JobReport
from gandt.domain.labeling.money import Quote
from gandt.domain.labeling.outcomes import (
    SHOWN_REPLACED,
    Aggregated,
    Exported,
    GivenLabel,
    Imported,
    ImportReport,
    RefusedLabel,
    ReplacedLabel,
    RoundCollected,
)
from gandt.domain.labeling.rounds import Round
from gandt.domain.selection.forecast import Forecast
from gandt.domain.selection.proof import Proof
from gandt.wire import jobcontroller as wire
from gandt.wire import jobcontroller_campaigns as campaigns_wire
from gandt.wire import jobcontroller_proofs as proofs_wire
from gandt.wire.jobcontroller import pb

ROWS_A_CALL = 10_000  # of labels and answers; far below the 32 MiB of a call


class JobControllerClient:
    """Calls the job controller. Thread-safe. An empty id means the newest campaign or round.

    Args:
        channel: connection to the service; the caller closes it.
    """

    def __init__(self, channel: Channel) -> None:
        self._stub = wire.Stub(channel)

    # ---- catalog ----

    def import_images(self, uris: Sequence[str]) -> Iterator[ImportReport]:
        """Read images and folders (s3:// URIs, folders end in "/") into the catalog; the last report is done.

        Raises:
            NotFound: nothing is there.
        """
        for response in self._stub.ImportImages(pb.ImportImagesRequest(uris=uris)):
            yield wire.import_report(response)

    def list_images(self) -> Iterator[CatalogImage]:
        """All images by id."""
        for page in _pages(self._stub.ListImages, pb.ListImagesRequest(page_size=1000)):
            yield from map(wire.image, page.images)

    def count_images(self) -> int:
        """Images in the catalog."""
        return int(self._stub.ListImages(pb.ListImagesRequest(page_size=1)).total)

    def import_labels(self, labels: Iterable[GivenLabel], kind: LabelKind, multi_label: bool = False) -> Imported:
        """Store labels that are known; what cannot be taken is listed. Conflicts are seen within 10,000 labels."""
        number = wire.label_kind_number(kind)

        def send(part: Sequence[GivenLabel]) -> Any:
            rows = [pb.ImportedLabel(image=item.image, labels=item.labels) for item in part]
            return self._stub.ImportLabels(pb.ImportLabelsRequest(labels=rows, kind=number, multi_label=multi_label))

        return _imported(labels, send)

    def list_labels(
        self, campaign_id: str = "", status: str = "", include_seeds: bool = False
    ) -> Iterator[StoredLabel]:
        """Labels by image id."""
        request = pb.ListLabelsRequest(
            campaign_id=campaign_id, status=status, page_size=ROWS_A_CALL, include_seeds=include_seeds
        )
        for page in _pages(self._stub.ListLabels, request):
            yield from map(wire.label, page.labels)

    def export_labels(self, uri: str, form: str, campaign_id: str = "", include_uncertain: bool = False) -> Exported:
        """Write the dataset to the object store; `form` is csv, jsonl, parquet or manifest."""
        request = pb.ExportLabelsRequest(
            campaign_id=campaign_id, format=form, uri=uri, include_uncertain=include_uncertain
        )
        answer = self._stub.ExportLabels(request)
        return Exported(answer.uri, answer.rows, answer.sha256)

    # ---- campaigns ----

    def create_campaign(self, spec: CampaignSpec, request_id: str = "", manual: bool = False) -> Campaign:
        """A new campaign; a manual one waits for single steps.

        Raises:
            InvalidInput: the spec can never work.
        """
        request = pb.CreateCampaignRequest(spec=campaigns_wire.spec_message(spec), request_id=request_id, manual=manual)
        return campaigns_wire.campaign(self._stub.CreateCampaign(request).campaign)

    def get_campaign(self, campaign_id: str = "") -> Campaign:
        """A campaign. Raises NotFound."""
        request = pb.GetCampaignRequest(campaign_id=campaign_id)
        return campaigns_wire.campaign(self._stub.GetCampaign(request).campaign)

    def get_proof(self, campaign_id: str = "") -> Proof | None:
        """What a campaign's control draws prove so far; None without target labels. Raises NotFound."""
        answer = self._stub.GetCampaign(pb.GetCampaignRequest(campaign_id=campaign_id))
        return proofs_wire.proof(answer.proof) if answer.HasField("proof") else None

    def list_campaigns(self) -> Iterator[Campaign]:
        """All campaigns, newest first."""
        for page in _pages(self._stub.ListCampaigns, pb.ListCampaignsRequest()):
            yield from map(campaigns_wire.campaign, page.campaigns)

    def update_campaign(
        self,
        campaign_id: str,
        paused: bool | None = None,
        budget_usd_micros: int | None = None,
        expected_version: int = 0,
        stop: StopRule | None = None,
    ) -> Campaign:
        """Pause, resume, or change the limits; a limit that is raised reopens a campaign that has ended.

        Raises:
            Conflict, WrongState, InvalidInput: see the contract.
        """
        request = pb.UpdateCampaignRequest(
            campaign_id=campaign_id,
            paused=paused,
            budget_usd_micros=budget_usd_micros,
            expected_version=expected_version,
            stop=None if stop is None else campaigns_wire.stop_rule_message(stop),
        )
        return campaigns_wire.campaign(self._stub.UpdateCampaign(request).campaign)

    def watch_campaign(self, campaign_id: str = "") -> Iterator[tuple[Campaign, Round | None]]:
        """The campaign and its newest round, now and after each change, until it is over."""
        for response in self._stub.WatchCampaign(pb.WatchCampaignRequest(campaign_id=campaign_id)):
            current = campaigns_wire.round_of(response.round) if response.HasField("round") else None
            yield campaigns_wire.campaign(response.campaign), current

    def stop_campaign(self, campaign_id: str = "") -> Campaign:
        """Begin a campaign's end."""
        request = pb.StopCampaignRequest(campaign_id=campaign_id)
        return campaigns_wire.campaign(self._stub.StopCampaign(request).campaign)

    # ---- rounds ----

    def create_round(self, campaign_id: str = "", count: int = 0, strategy: str = "", request_id: str = "") -> Round:
        """Select images as the next round of a manual campaign. Raises WrongState."""
        request = pb.CreateRoundRequest(campaign_id=campaign_id, count=count, strategy=strategy, request_id=request_id)
        return campaigns_wire.round_of(self._stub.CreateRound(request, timeout=None).round)

    def get_round(self, round_id: str = "") -> Round:
        """A round with its picks. Raises NotFound."""
        return campaigns_wire.round_of(self._stub.GetRound(pb.GetRoundRequest(round_id=round_id)).round)

    def list_rounds(self, campaign_id: str = "") -> Iterator[Round]:
        """A campaign's rounds by number, without picks."""
        for page in _pages(self._stub.ListRounds, pb.ListRoundsRequest(campaign_id=campaign_id)):
            yield from map(campaigns_wire.round_of, page.rounds)

    def quote_round(self, round_id: str = "") -> tuple[Quote, int, Forecast | None]:
        """What a round will take, what is left in millionths of a US dollar, and what the campaign will still take."""
        return campaigns_wire.quote(self._stub.QuoteRound(pb.QuoteRoundRequest(round_id=round_id)))

    def collect_round(self, round_id: str = "") -> RoundCollected:
        """Read the answers of a round's ended jobs."""
        return campaigns_wire.collected(self._stub.CollectRound(pb.CollectRoundRequest(round_id=round_id)))

    def aggregate_round(self, round_id: str = "") -> Aggregated:
        """Make labels of all answers and close the round. Raises WrongState."""
        return campaigns_wire.aggregated(self._stub.AggregateRound(pb.AggregateRoundRequest(round_id=round_id)))

    # ---- labeling jobs ----

    def create_labeling_job(self, round_id: str = "", request_id: str = "") -> JobReport:
        """Reserve the money and start a labeling job for a round.

        Raises:
            OverBudget: it may cost more than is left.
            WrongState: nothing waits, or the campaign runs by itself.
        """
        request = pb.CreateLabelingJobRequest(round_id=round_id, request_id=request_id)
        return campaigns_wire.job_report(self._stub.CreateLabelingJob(request).job)

    def get_labeling_job(self, job_name: str) -> JobReport:
        """A labeling job. Raises NotFound."""
        request = pb.GetLabelingJobRequest(job_name=job_name)
        return campaigns_wire.job_report(self._stub.GetLabelingJob(request).job)

    def list_labeling_jobs(self, campaign_id: str = "", round_id: str = "") -> Iterator[JobReport]:
        """Jobs of a campaign, or of one round, oldest first."""
        request = pb.ListLabelingJobsRequest(campaign_id=campaign_id, round_id=round_id)
        for page in _pages(self._stub.ListLabelingJobs, request):
            yield from map(campaigns_wire.job_report, page.jobs)

    def watch_labeling_job(self, job_name: str) -> Iterator[JobReport]:
        """The job now and after each change, until it is settled or refused."""
        for response in self._stub.WatchLabelingJob(pb.WatchLabelingJobRequest(job_name=job_name)):
            yield campaigns_wire.job_report(response.job)

    def stop_labeling_job(self, job_name: str) -> JobReport:
        """Stop a labeling job; what was answered is kept."""
        request = pb.StopLabelingJobRequest(job_name=job_name)
        return campaigns_wire.job_report(self._stub.StopLabelingJob(request).job)

    # ---- answers and people ----

    def list_answers(self, campaign_id: str = "", job_name: str = "") -> Iterator[Answer]:
        """Answers by job, image and worker."""
        request = pb.ListAnswersRequest(campaign_id=campaign_id, job_name=job_name, page_size=ROWS_A_CALL)
        for page in _pages(self._stub.ListAnswers, request):
            yield from map(wire.answer, page.answers)

    def import_answers(self, answers: Iterable[Answer], campaign_id: str = "") -> Imported:
        """Store answers that were collected elsewhere; `image_id` may be an id, URI or path."""

        def send(part: Sequence[Answer]) -> Any:
            rows = [wire.answer_message(item) for item in part]
            return self._stub.ImportAnswers(pb.ImportAnswersRequest(campaign_id=campaign_id, answers=rows))

        return _imported(answers, send)

    def review_labels(self, reviews: Sequence[GivenLabel], reviewer: str, campaign_id: str = "") -> Imported:
        """Record an expert's decisions."""
        rows = [pb.Review(image=item.image, labels=item.labels) for item in reviews]
        request = pb.ReviewLabelsRequest(campaign_id=campaign_id, reviews=rows, reviewer=reviewer)
        answer = self._stub.ReviewLabels(request)
        return Imported(answer.reviewed, 0, tuple(map(wire.rejected_label, answer.rejected)))

    def list_workers(self, campaign_id: str = "") -> Iterator[WorkerRecord]:
        """What is known of a campaign's workers, by id."""
        for page in _pages(self._stub.ListWorkers, pb.ListWorkersRequest(campaign_id=campaign_id)):
            yield from map(wire.worker, page.workers)

    def forget_worker(self, worker_id: str) -> tuple[int, str]:
        """Remove what is known of a person; the answers that stay, and their new pseudonym."""
        answer = self._stub.ForgetWorker(pb.ForgetWorkerRequest(worker_id=worker_id))
        return int(answer.answers), str(answer.new_worker_id)

    # ---- embedding ----

    def create_embedding_job(self, model_id: str = "", request_id: str = "") -> EmbeddingJob:
        """Embed all images that have no vector yet. Raises WrongState for another model."""
        request = pb.CreateEmbeddingJobRequest(model_id=model_id, request_id=request_id)
        return wire.embedding_job(self._stub.CreateEmbeddingJob(request).job)

    def get_embedding_job(self, embedding_job_id: str) -> EmbeddingJob:
        """An embedding job. Raises NotFound."""
        request = pb.GetEmbeddingJobRequest(embedding_job_id=embedding_job_id)
        return wire.embedding_job(self._stub.GetEmbeddingJob(request).job)


def _pages(call: Callable[[Any], Any], request: Any) -> Iterator[Any]:
    """All pages of a list."""
    while True:
        page = call(request)
        yield page
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def _imported(rows: Iterable[Any], send: Callable[[Sequence[Any]], Any]) -> Imported:
    """Send rows in calls of moderate size and put the outcomes together."""
    rest = iter(rows)
    imported = unchanged = start = 0
    rejected: list[RefusedLabel] = []
    replaced = 0
    examples: tuple[ReplacedLabel, ...] = ()
    while part := list(islice(rest, ROWS_A_CALL)):
        answer = send(part)
        imported += answer.imported
        unchanged += answer.unchanged
        found = map(wire.rejected_label, answer.rejected)
        rejected += [RefusedLabel(start + item.index, item.image, item.error) for item in found]
        start += len(part)
        replaced += getattr(answer, "replaced", 0)  # labels may be replaced, answers may not
        examples = (*examples, *map(wire.replaced_label, getattr(answer, "examples", ())))
    return Imported(imported, unchanged, tuple(rejected), replaced, examples[:SHOWN_REPLACED])
