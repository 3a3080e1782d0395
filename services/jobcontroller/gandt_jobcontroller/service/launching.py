# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps that bring pages to the backend: write down the intent with its money, then create, adopt or rename.

The intent is committed before the backend hears of it. Its name is derived from its content, so after a crash the
same name comes out and the backend tells us whether our call had arrived.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from gandt.domain.catalog import LabelKind
from gandt.domain.errors import (
    AlreadyExists,
    BackendUnavailable,
    GandtError,
    InvalidInput,
    NotFound,
    Overloaded,
    PermissionDenied,
    Unauthenticated,
    WrongState,
)
from gandt.domain.labeling.campaigns import Campaign, CampaignSpec
from gandt.domain.labeling.jobs import BackendStatus, JobRequest, JobState, LabelingJob, job_name, spec_sha256
from gandt.domain.labeling.manifest import Manifest, Question, Tile, build_manifest, upload
from gandt.domain.labeling.money import quote
from gandt.domain.labeling.pages import mix_gold, pack_pages
from gandt.domain.labeling.rounds import PageGroup, Round, RoundState
from gandt_jobcontroller.service.naming import is_usable
from gandt_jobcontroller.service.parts import Parts

SPEC_TAG = "gandt:spec-sha256"
MAX_BUMPS = 3  # then a person must look
NOT_SEEN_TRIES = 12  # Describe calls, 5 s apart, for a name that is taken and yet unknown
RETRY_SECONDS = 5.0
LONGEST_RETRY_SECONDS = 60.0


def start_job(parts: Parts, campaign: Campaign, waiting: Round, request_id: str = "") -> LabelingJob:
    """Write down a job for the round's first pending group, its money reserved; the backend hears of it later.

    Raises:
        OverBudget: its worst case does not fit into the budget.
        WrongState: nothing waits.
        InvalidInput: the backend would refuse it.
    """
    if not waiting.pending:
        raise WrongState(
            f"round {waiting.number} has no images that wait for a labeling job",
            kind="round",
            id=waiting.round_id,
            state=waiting.state.value,
            reason="NOTHING_TO_LABEL",
        )
    group = waiting.pending[0]
    manifest = _manifest(parts, campaign, waiting, group)
    places, spec = parts.places, campaign.spec
    template = parts.template()
    template_uri = upload(parts.objects, places.templates(), template, "page.liquid.html")
    manifest_uri = upload(parts.objects, places.manifests(campaign.campaign_id, waiting.number), manifest.data)
    parts.checkpoint("uploaded")
    request = JobRequest(
        job_name="",
        manifest_uri=manifest_uri,
        output_uri=places.output(campaign.campaign_id, waiting.number),
        template_uri=template_uri,
        role_arn=places.role_arn,
        workteam_arn=spec.workteam_arn or places.workteam_arn,
        pre_lambda_arn=places.pre_lambda_arn,
        post_lambda_arn=places.post_lambda_arn,
        title=_title(campaign),
        description=_description(campaign),
        workers=group.workers,
        time_limit_seconds=spec.task_time_limit_seconds,
        availability_seconds=spec.task_availability_seconds,
        max_objects=len(manifest.lines),
        tags={"gandt:campaign": campaign.campaign_id, "gandt:round": str(waiting.number)},
    )
    job = LabelingJob(
        job_name="",
        round_id=waiting.round_id,
        campaign_id=campaign.campaign_id,
        state=JobState.INTENT,
        request=request,
        spec_sha256="",
        images=len(group.image_ids),
        pages=len(manifest.lines),
        workers_per_page=group.workers,
        created_at=parts.clock.now(),
        reserved=_worst_case(campaign, waiting, group, len(manifest.lines)),
    )
    content = {
        "manifest_sha256": hashlib.sha256(manifest.data).hexdigest(),
        "template_sha256": hashlib.sha256(template).hexdigest(),
    }
    job = _named(parts, campaign, waiting.number, job, content, attempt=0)
    parts.backend.check(job.request)
    pages = {tile.image_id: task.task_id for task in manifest.tasks for _, tile in task.tiles}
    written = parts.store.record_intent(job, group, pages, request_id)
    parts.checkpoint("intent-written")
    return written


def submit_job(parts: Parts, job: LabelingJob) -> LabelingJob:
    """Bring an intent to the backend, or find it there.

    Raises:
        InvalidInput, PermissionDenied: the backend refused; the money is released and the group waits again.
        Overloaded, BackendUnavailable, Unauthenticated: not now; the intent stays and is tried again.
    """
    try:
        if job.tries:  # an earlier call may have arrived
            status = parts.backend.describe(job.job_name)
            if status is not None:
                return _found(parts, job, status)
        arn = parts.backend.create(job.request)
        parts.checkpoint("created")
        return _created(parts, job, arn)
    except AlreadyExists:
        status = parts.backend.describe(job.job_name)
        if status is not None:
            return _found(parts, job, status)
        if job.tries >= NOT_SEEN_TRIES:
            return _bumped(parts, job)
        return _later(parts, job, RETRY_SECONDS, "the backend says that the name is taken and does not know it yet")
    except (InvalidInput, PermissionDenied) as error:
        _refuse(parts, job, error)
        raise
    except Overloaded as error:
        _later(parts, job, error.retry_after_seconds if error.reason == "QUOTA_EXCEEDED" else 0.0, error.message)
        raise
    except (BackendUnavailable, Unauthenticated) as error:
        _later(parts, job, 0.0, error.message)
        raise


def stop_job(parts: Parts, job: LabelingJob) -> LabelingJob:
    """Ask the backend to stop a job; an intent that never arrived is withdrawn.

    Raises:
        Overloaded, BackendUnavailable, PermissionDenied, Unauthenticated: the backend does not answer.
    """
    if job.state is JobState.INTENT and parts.backend.describe(job.job_name) is None:
        return parts.store.refuse_job(job.job_name, "withdrawn before it began", _group(parts, job), parts.clock.now())
    parts.backend.stop(job.job_name)

    def stopping(now: LabelingJob) -> LabelingJob:
        over = now.state in (JobState.COLLECTING, JobState.STOPPING)
        return now if over else replace(now, state=JobState.STOPPING, message="stopping on request")

    return parts.store.change_job(job.job_name, stopping, parts.clock.now())


def _manifest(parts: Parts, campaign: Campaign, waiting: Round, group: PageGroup) -> Manifest:
    spec = campaign.spec
    tiles = _tiles(parts, group.image_ids)
    pages = pack_pages(tiles, spec.images_per_page)
    jobs = parts.store.list_jobs(campaign.campaign_id, waiting.round_id)
    asked = parts.store.asked_images(campaign.campaign_id) if spec.gold_per_page else set()
    known = parts.store.known_labels(LabelKind.GOLD)
    gold = [g.image_id for g in known if g.image_id not in asked and is_usable(g, spec.space)]
    per_page = min(spec.gold_per_page, len(gold) // len(pages))  # a gold tile is shown once in a campaign
    if per_page:
        rng = random.Random(f"{spec.seed}:{waiting.number}:{len(jobs)}")
        pages = mix_gold(pages, _tiles(parts, gold), per_page, rng)
    return build_manifest(pages, _asked(spec), task_prefix=f"r{waiting.number}j{len(jobs) + 1}")


def check_page(parts: Parts, spec: CampaignSpec) -> None:
    """Refuse a page that no manifest line can hold, told by the catalog's first images.

    Raises:
        InvalidInput: MANIFEST_LINE_TOO_LONG, with the group size that fits.
    """
    images = parts.store.list_images("", spec.group_size)
    known = [image for image in images if image.uris]
    if known:
        seen = (known[place % len(known)] for place in range(spec.group_size))  # a small catalog fills a page, too
        page = [Tile(image.uris[0], f"{place:064x}", image.thumbnail_uri) for place, image in enumerate(seen)]
        build_manifest([page], _asked(spec), task_prefix="r1j1")


def _asked(spec: CampaignSpec) -> Question:
    return Question(
        event_names=spec.shown_classes,
        other_label=spec.other_label,
        positive_examples=spec.positive_example_uris,
        negative_examples=spec.negative_example_uris,
        multi_label=spec.multi_label,
        instructions=spec.instructions.strip(),
    )


def _tiles(parts: Parts, image_ids: Sequence[str]) -> list[Tile]:
    images = parts.store.get_images(image_ids)
    tiles = []
    for image_id in image_ids:
        image = images.get(image_id)
        if image is None or not image.uris:
            raise NotFound(f"image {image_id} has no file in the catalog", kind="image", id=image_id)
        tiles.append(Tile(image.uris[0], image_id, image.thumbnail_uri))
    return tiles


def _title(campaign: Campaign) -> str:
    return f"Label images: {', '.join(campaign.spec.shown_classes)}"[:128]


def _description(campaign: Campaign) -> str:
    default = (
        "Choose every label that fits each image" if campaign.spec.multi_label else "Choose a label for each image"
    )
    return " ".join(campaign.spec.instructions.split())[:255] or default


def _worst_case(campaign: Campaign, waiting: Round, group: PageGroup, pages: int) -> int:
    """A round's first job holds what the whole round may cost; a repeat holds its own pages."""
    spec = campaign.spec
    if waiting.state is RoundState.SELECTED:
        images = len(group.image_ids)
        return quote(images, group.workers, spec.max_workers_per_image, spec.images_per_page, spec.prices).max_cost
    return spec.prices.job_cost(pages, group.workers)


def _named(
    parts: Parts, campaign: Campaign, round_number: int, job: LabelingJob, content: dict[str, str], attempt: int
) -> LabelingJob:
    """The job under the first name, from an attempt on, that the store has never used."""
    request = job.request
    while True:
        sha256 = spec_sha256(
            {
                **content,
                "campaign": campaign.campaign_id,
                "round": job.round_id,
                "pre_arn": request.pre_lambda_arn,
                "post_arn": request.post_lambda_arn,
                "workteam": request.workteam_arn,
                "workers": request.workers,
                "price": campaign.spec.price_per_page_usd_micros,
                "times": [request.time_limit_seconds, request.availability_seconds],
                "attempt": attempt,
            }
        )
        name = job_name(parts.places.job_prefix, campaign.spec.name, round_number, sha256)
        if not parts.store.has_job(name):
            tags = {**request.tags, SPEC_TAG: sha256}
            named = replace(request, job_name=name, tags=tags)
            return replace(job, job_name=name, request=named, spec_sha256=sha256, attempt=attempt)
        attempt += 1


def _created(parts: Parts, job: LabelingJob, arn: str) -> LabelingJob:
    def created(now: LabelingJob) -> LabelingJob:
        if now.state is not JobState.INTENT:
            return now
        return replace(now, state=JobState.CREATED, arn=arn, message="", tries=0, next_try_at=None)

    return parts.store.change_job(job.job_name, created, parts.clock.now())


def _found(parts: Parts, job: LabelingJob, status: BackendStatus) -> LabelingJob:
    """The backend has a job of our name: ours by its tag, or somebody else's."""
    if status.tags.get(SPEC_TAG) == job.spec_sha256:
        return _created(parts, job, status.arn)
    return _bumped(parts, job)


def _bumped(parts: Parts, job: LabelingJob) -> LabelingJob:
    """The same job under its next name."""
    if job.attempt >= MAX_BUMPS:
        error = AlreadyExists(
            f"labeling job {job.job_name} and {MAX_BUMPS} further names are taken by others",
            kind="labeling job",
            id=job.job_name,
            reason="JOB_NAME_TAKEN",
            fix="give this deployment a job prefix of its own",
        )
        _refuse(parts, job, error)
        raise error
    campaign = parts.store.get_campaign(job.campaign_id)
    number = parts.store.get_round(job.round_id).number
    content = {"replaces": job.spec_sha256}
    renamed = replace(_named(parts, campaign, number, job, content, job.attempt + 1), tries=0, next_try_at=None)
    return parts.store.rename_intent(job.job_name, renamed, parts.clock.now())


def _later(parts: Parts, job: LabelingJob, seconds: float, message: str) -> LabelingJob:
    """Note when to try again: doubling waits with jitter, unless the backend said how long."""
    longest = min(LONGEST_RETRY_SECONDS, 2.0 ** min(job.tries, 6))
    wait = seconds or random.Random(f"{job.job_name}:{job.tries}").uniform(longest / 2, longest)
    at = parts.clock.now() + timedelta(seconds=wait)

    def later(now: LabelingJob) -> LabelingJob:
        return replace(now, tries=now.tries + 1, next_try_at=at, message=message)

    return parts.store.change_job(job.job_name, later, parts.clock.now(), quiet=job.message == message)


def _refuse(parts: Parts, job: LabelingJob, error: GandtError) -> None:
    parts.store.refuse_job(job.job_name, error.message, _group(parts, job), parts.clock.now())


def _group(parts: Parts, job: LabelingJob) -> PageGroup:
    """The group that a job took off its round: its images that were ever picked, so without gold; the round's first."""
    asked = parts.store.job_pages(job.job_name)
    picks = parts.store.get_round(job.round_id, with_picks=True).picks
    own = [pick.image_id for pick in picks if pick.image_id in asked]
    earlier = sorted(parts.store.picked_images(job.campaign_id).intersection(asked).difference(own))
    return PageGroup((*own, *earlier), job.workers_per_page)
