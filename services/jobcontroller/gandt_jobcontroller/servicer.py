# SPDX-License-Identifier: GPL-3.0-or-later
"""The gRPC face of the job controller: messages in, use case in a worker thread, messages out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from gandt.runtime.work_pool import WorkPool
from gandt.wire import jobcontroller as wire
from gandt.wire import jobcontroller_campaigns as campaigns_wire
from gandt.wire import jobcontroller_proofs as proofs_wire
from gandt.wire.jobcontroller import pb
from gandt_jobcontroller.service.controller import JobController


class JobControllerServicer(wire.Servicer):
    """One coroutine a method; what each does is said in the contract.

    Args:
        service: the use cases.
        pool: runs them.
    """

    def __init__(self, service: JobController, pool: WorkPool) -> None:
        self._service = service
        self._pool = pool

    # ---- catalog ----

    async def ImportImages(
        self, request: pb.ImportImagesRequest, context: Any
    ) -> AsyncIterator[pb.ImportImagesResponse]:
        deadline = self._pool.deadline(context)

        def run() -> Iterator[pb.ImportImagesResponse]:
            for report in self._service.catalog.import_images(list(request.uris), deadline):
                yield wire.import_report_message(report)

        async for response in self._pool.stream(context, run):
            yield response

    async def ListImages(self, request: pb.ListImagesRequest, context: Any) -> pb.ListImagesResponse:
        images, token, total = await self._pool.call(
            context, self._service.catalog.list_images, request.page_size, request.page_token
        )
        return pb.ListImagesResponse(images=map(wire.image_message, images), next_page_token=token, total=total)

    async def ImportLabels(self, request: pb.ImportLabelsRequest, context: Any) -> pb.ImportLabelsResponse:
        kind, given = wire.label_kind(request.kind), [wire.given_label(item) for item in request.labels]
        done = await self._pool.call(context, self._service.catalog.import_labels, given, kind, request.multi_label)
        return pb.ImportLabelsResponse(
            imported=done.imported,
            unchanged=done.unchanged,
            rejected=map(wire.rejected_label_message, done.rejected),
            replaced=done.replaced,
            examples=map(wire.replaced_label_message, done.examples),
        )

    async def ListLabels(self, request: pb.ListLabelsRequest, context: Any) -> pb.ListLabelsResponse:
        labels, token, total = await self._pool.call(
            context,
            self._service.catalog.list_labels,
            request.campaign_id,
            request.status,
            request.include_seeds,
            request.page_size,
            request.page_token,
        )
        return pb.ListLabelsResponse(labels=map(wire.label_message, labels), next_page_token=token, total=total)

    async def ExportLabels(self, request: pb.ExportLabelsRequest, context: Any) -> pb.ExportLabelsResponse:
        done = await self._pool.call(
            context,
            self._service.export_labels,
            request.campaign_id,
            request.format,
            request.uri,
            request.include_uncertain,
        )
        return pb.ExportLabelsResponse(uri=done.uri, rows=done.rows, sha256=done.sha256)

    # ---- campaigns ----

    async def CreateCampaign(self, request: pb.CreateCampaignRequest, context: Any) -> pb.CreateCampaignResponse:
        spec = campaigns_wire.spec(request.spec)
        made = await self._pool.call(context, self._service.campaigns.create, spec, request.request_id, request.manual)
        return pb.CreateCampaignResponse(campaign=campaigns_wire.campaign_message(made))

    async def GetCampaign(self, request: pb.GetCampaignRequest, context: Any) -> pb.GetCampaignResponse:
        found, proof = await self._pool.call(context, self._service.campaigns.get_with_proof, request.campaign_id)
        proven = None if proof is None else proofs_wire.proof_message(proof)
        return pb.GetCampaignResponse(campaign=campaigns_wire.campaign_message(found), proof=proven)

    async def ListCampaigns(self, request: pb.ListCampaignsRequest, context: Any) -> pb.ListCampaignsResponse:
        found, token = await self._pool.call(
            context, self._service.campaigns.list_campaigns, request.page_size, request.page_token
        )
        messages = map(campaigns_wire.campaign_message, found)
        return pb.ListCampaignsResponse(campaigns=messages, next_page_token=token)

    async def UpdateCampaign(self, request: pb.UpdateCampaignRequest, context: Any) -> pb.UpdateCampaignResponse:
        changed = await self._pool.call(
            context,
            self._service.campaigns.update,
            request.campaign_id,
            request.paused if request.HasField("paused") else None,
            request.budget_usd_micros if request.HasField("budget_usd_micros") else None,
            request.expected_version,
            campaigns_wire.stop_rule(request.stop) if request.HasField("stop") else None,
        )
        return pb.UpdateCampaignResponse(campaign=campaigns_wire.campaign_message(changed))

    async def WatchCampaign(
        self, request: pb.WatchCampaignRequest, context: Any
    ) -> AsyncIterator[pb.WatchCampaignResponse]:
        deadline = self._pool.deadline(context, stop_at_drain=True)

        def run() -> Iterator[pb.WatchCampaignResponse]:
            for campaign, newest in self._service.campaigns.watch(request.campaign_id, deadline):
                yield pb.WatchCampaignResponse(
                    campaign=campaigns_wire.campaign_message(campaign),
                    round=None if newest is None else campaigns_wire.round_message(newest),
                )

        async for response in self._pool.stream(context, run):
            yield response

    async def StopCampaign(self, request: pb.StopCampaignRequest, context: Any) -> pb.StopCampaignResponse:
        changed = await self._pool.call(context, self._service.campaigns.stop, request.campaign_id)
        return pb.StopCampaignResponse(campaign=campaigns_wire.campaign_message(changed))

    # ---- rounds ----

    async def CreateRound(self, request: pb.CreateRoundRequest, context: Any) -> pb.CreateRoundResponse:
        made = await self._pool.call(
            context,
            self._service.rounds.create,
            request.campaign_id,
            request.count,
            request.strategy,
            request.request_id,
        )
        return pb.CreateRoundResponse(round=campaigns_wire.round_message(made))

    async def GetRound(self, request: pb.GetRoundRequest, context: Any) -> pb.GetRoundResponse:
        found = await self._pool.call(context, self._service.rounds.get, request.round_id)
        return pb.GetRoundResponse(round=campaigns_wire.round_message(found))

    async def ListRounds(self, request: pb.ListRoundsRequest, context: Any) -> pb.ListRoundsResponse:
        found, token = await self._pool.call(
            context, self._service.rounds.list_rounds, request.campaign_id, request.page_size, request.page_token
        )
        return pb.ListRoundsResponse(rounds=map(campaigns_wire.round_message, found), next_page_token=token)

    async def QuoteRound(self, request: pb.QuoteRoundRequest, context: Any) -> pb.QuoteRoundResponse:
        quote, money, coming = await self._pool.call(context, self._service.rounds.quote, request.round_id)
        return campaigns_wire.quote_message(quote, money, coming)

    async def CollectRound(self, request: pb.CollectRoundRequest, context: Any) -> pb.CollectRoundResponse:
        done = await self._pool.call(context, self._service.rounds.collect, request.round_id)
        return campaigns_wire.collected_message(done)

    async def AggregateRound(self, request: pb.AggregateRoundRequest, context: Any) -> pb.AggregateRoundResponse:
        done = await self._pool.call(context, self._service.rounds.aggregate, request.round_id)
        return campaigns_wire.aggregated_message(done)

    async def ReviewLabels(self, request: pb.ReviewLabelsRequest, context: Any) -> pb.ReviewLabelsResponse:
        given = [wire.given_label(item) for item in request.reviews]
        count, rejected = await self._pool.call(
            context, self._service.answers.review, request.campaign_id, given, request.reviewer
        )
        return pb.ReviewLabelsResponse(reviewed=count, rejected=map(wire.rejected_label_message, rejected))

    # ---- labeling jobs ----

    async def CreateLabelingJob(
        self, request: pb.CreateLabelingJobRequest, context: Any
    ) -> pb.CreateLabelingJobResponse:
        job = await self._pool.call(context, self._service.rounds.create_job, request.round_id, request.request_id)
        return pb.CreateLabelingJobResponse(job=campaigns_wire.job_message(job, self._service.work_url))

    async def GetLabelingJob(self, request: pb.GetLabelingJobRequest, context: Any) -> pb.GetLabelingJobResponse:
        job = await self._pool.call(context, self._service.rounds.get_job, request.job_name)
        return pb.GetLabelingJobResponse(job=campaigns_wire.job_message(job, self._service.work_url))

    async def ListLabelingJobs(self, request: pb.ListLabelingJobsRequest, context: Any) -> pb.ListLabelingJobsResponse:
        jobs, token = await self._pool.call(
            context,
            self._service.rounds.list_jobs,
            request.campaign_id,
            request.round_id,
            request.page_size,
            request.page_token,
        )
        messages = [campaigns_wire.job_message(job, self._service.work_url) for job in jobs]
        return pb.ListLabelingJobsResponse(jobs=messages, next_page_token=token)

    async def WatchLabelingJob(
        self, request: pb.WatchLabelingJobRequest, context: Any
    ) -> AsyncIterator[pb.WatchLabelingJobResponse]:
        deadline = self._pool.deadline(context, stop_at_drain=True)

        def run() -> Iterator[pb.WatchLabelingJobResponse]:
            for job in self._service.rounds.watch_job(request.job_name, deadline):
                yield pb.WatchLabelingJobResponse(job=campaigns_wire.job_message(job, self._service.work_url))

        async for response in self._pool.stream(context, run):
            yield response

    async def StopLabelingJob(self, request: pb.StopLabelingJobRequest, context: Any) -> pb.StopLabelingJobResponse:
        job = await self._pool.call(context, self._service.rounds.stop_job, request.job_name)
        return pb.StopLabelingJobResponse(job=campaigns_wire.job_message(job, self._service.work_url))

    # ---- answers and people ----

    async def ListAnswers(self, request: pb.ListAnswersRequest, context: Any) -> pb.ListAnswersResponse:
        answers, token, total = await self._pool.call(
            context,
            self._service.answers.list_answers,
            request.campaign_id,
            request.job_name,
            request.page_size,
            request.page_token,
        )
        return pb.ListAnswersResponse(answers=map(wire.answer_message, answers), next_page_token=token, total=total)

    async def ImportAnswers(self, request: pb.ImportAnswersRequest, context: Any) -> pb.ImportAnswersResponse:
        given = [wire.answer(item) for item in request.answers]
        done = await self._pool.call(context, self._service.answers.import_answers, request.campaign_id, given)
        return pb.ImportAnswersResponse(
            imported=done.imported,
            unchanged=done.unchanged,
            rejected=map(wire.rejected_label_message, done.rejected),
        )

    async def ListWorkers(self, request: pb.ListWorkersRequest, context: Any) -> pb.ListWorkersResponse:
        workers, token = await self._pool.call(
            context, self._service.answers.list_workers, request.campaign_id, request.page_size, request.page_token
        )
        return pb.ListWorkersResponse(workers=map(wire.worker_message, workers), next_page_token=token)

    async def ForgetWorker(self, request: pb.ForgetWorkerRequest, context: Any) -> pb.ForgetWorkerResponse:
        count, new_id = await self._pool.call(context, self._service.answers.forget_worker, request.worker_id)
        return pb.ForgetWorkerResponse(answers=count, new_worker_id=new_id)

    # ---- embedding ----

    async def CreateEmbeddingJob(
        self, request: pb.CreateEmbeddingJobRequest, context: Any
    ) -> pb.CreateEmbeddingJobResponse:
        job = await self._pool.call(context, self._service.embedding.create, request.model_id, request.request_id)
        return pb.CreateEmbeddingJobResponse(job=wire.embedding_job_message(job))

    async def GetEmbeddingJob(self, request: pb.GetEmbeddingJobRequest, context: Any) -> pb.GetEmbeddingJobResponse:
        job = await self._pool.call(context, self._service.embedding.get, request.embedding_job_id)
        return pb.GetEmbeddingJobResponse(job=wire.embedding_job_message(job))
