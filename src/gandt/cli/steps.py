# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps of the loop that several verbs take: ingest, import labels, embed, follow a campaign."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gandt.cli import exit_codes
from gandt.cli.context import Context
from gandt.domain.datasets import join_labels
from gandt.domain.errors import GandtError, InvalidInput, NotFound

if TYPE_CHECKING:
    from gandt.client.jobcontroller import JobControllerClient
    from gandt.domain.catalog import EmbeddingJob, LabelKind
    from gandt.domain.labeling.campaigns import Campaign
    from gandt.domain.labeling.outcomes import ImportReport
    from gandt.domain.labeling.rounds import Round

POLL_SECONDS = 0.2
SHOWN_REJECTS = 20


def image_uri(ctx: Context, source: str) -> str:
    """The s3:// URI of a folder of images; a local folder is mapped onto a bucket of its own, read-only.

    Raises:
        NotFound: there is no such folder.
        InvalidInput: it is a file, or it can only be reached from this machine.
    """
    if source.startswith("s3://"):
        return source
    folder = Path(source)
    if not folder.exists():
        raise NotFound(f"there is no folder {folder}", kind="folder", id=source, reason="FOLDER_NOT_FOUND")
    if not folder.is_dir():
        raise InvalidInput(
            f"{folder} is a file", field="DIR", reason="NOT_A_FOLDER", fix="name the folder that it is in"
        )
    if ctx.endpoint or ctx.config.get("endpoints", "jobcontroller"):
        raise InvalidInput(
            f"the job controller is on another machine and cannot read {folder}",
            field="DIR",
            reason="LOCAL_FOLDER",
            fix="copy the images to S3 and name them as s3://bucket/folder/",
        )
    from gandt_standalone.bootstrap import mount_photos

    return mount_photos(ctx.project_dir, folder)


def image_sources(ctx: Context, given: Sequence[str]) -> list[str]:
    """Folders and URIs of images: those given, else those of gandt.toml, which are meant from the project's folder.

    Raises:
        InvalidInput: there are none.
    """
    configured = ctx.config.get("project", "images")
    sources = list(given) or [s if s.startswith("s3://") else str(ctx.project_dir / s) for s in configured]
    if not sources:
        raise InvalidInput(
            "no folder of images was named", field="DIR", reason="USAGE", fix="name one, or set project.images"
        )
    return sources


def ingest(ctx: Context, client: JobControllerClient, sources: Sequence[str]) -> int:
    """Reads images into the catalog, says what was refused, and returns the exit status."""
    from gandt.domain.labeling.outcomes import ImportSummary

    named = {image_uri(ctx, source): source for source in sources}
    summary, refused = ImportSummary(), 0
    for report in _as_typed(client.import_images(list(named)), named):
        ctx.out.progress("reading images", report.progress.done, report.progress.total)
        summary = report.summary
        for rejected in report.rejected:
            refused += 1
            if refused <= SHOWN_REJECTS:
                ctx.out.warn(f"{rejected.error.reason}: {rejected.error}")
    if refused > SHOWN_REJECTS:
        ctx.out.warn(f"{refused - SHOWN_REJECTS:,} more files were refused")
    if not summary.files:
        raise GandtError(
            f"there are no images in {', '.join(sources)}",
            reason="NOTHING_TO_DO",
            fix="name a folder with JPEG, PNG, WebP, GIF, BMP or TIFF files",
        )
    ctx.out.note(
        f"{summary.added:,} images added, {summary.unchanged:,} known, {summary.duplicates:,} exact duplicates, "
        f"{refused:,} refused"
    )
    return exit_codes.PARTIAL if refused else exit_codes.DONE


def _as_typed(reports: Iterator[ImportReport], named: Mapping[str, str]) -> Iterator[ImportReport]:
    """The reports; an error names a folder as the user typed it, not by its bucket."""
    try:
        yield from reports
    except GandtError as error:
        for uri, source in named.items():
            error.message = error.message.replace(uri, source)
        raise


def embed(ctx: Context, client: JobControllerClient) -> EmbeddingJob:
    """Embeds what has no vector yet and waits for the end.

    Raises:
        GandtError: the job failed as a whole.
    """
    from gandt.domain.catalog import EmbeddingState

    job = client.create_embedding_job()
    while job.state is EmbeddingState.RUNNING:
        ctx.out.progress("embedding", job.embedded + job.failed, job.total)
        time.sleep(POLL_SECONDS)
        job = client.get_embedding_job(job.embedding_job_id)
    ctx.out.clear()
    for rejected in job.rejected[:SHOWN_REJECTS]:
        ctx.out.warn(f"{rejected.reason}: {rejected.message}")
    if job.state is EmbeddingState.FAILED:
        raise GandtError(
            f"embedding stopped: {job.message}",
            reason="EMBEDDING_FAILED",
            fix="mend the cause, then run gandt embed again",
        )
    ctx.out.note(f"{job.embedded:,} of {job.total:,} images embedded with {job.model_id}")
    return job


def import_labels(
    ctx: Context,
    client: JobControllerClient,
    path: str,
    kind: LabelKind,
    multi_label: bool,
    classes: Sequence[str] = (),
) -> int:
    """Imports a table of known labels, says what was refused, and returns the exit status.

    Args:
        classes: label space of the campaign; a row with another label is refused here. () checks nothing.
    """
    from gandt.domain.labeling.outcomes import GivenLabel
    from gandt.tables.labels import gold_rows

    rows = [(GivenLabel(image, labels), where) for image, (labels, where) in gold_rows(path).items()]
    foreign = [(row, where) for row, where in rows if classes and not set(row.labels) <= set(classes)]
    for row, where in foreign[:SHOWN_REJECTS]:
        unknown = ", ".join(label for label in row.labels if label not in classes)
        ctx.out.warn(f"{where}: image {row.image!r}: {unknown!r} is not among the classes {', '.join(classes)}")
    refused = {row.image for row, _ in foreign}
    sent = [(row, where) for row, where in rows if row.image not in refused]
    report = client.import_labels([row for row, _ in sent], kind, multi_label)
    for rejected in report.rejected[:SHOWN_REJECTS]:
        ctx.out.warn(f"{sent[rejected.index][1]}: {rejected.error.reason}: {rejected.error}")
    ctx.out.note(
        f"{report.imported:,} {kind} labels imported, {report.unchanged:,} known, "
        f"{len(report.rejected) + len(foreign):,} refused"
    )
    if report.replaced:
        ctx.out.warn(f"{report.replaced:,} images had another {kind} label, which is replaced")
        for one in report.examples:
            ctx.out.warn(f"image {one.image!r} was {join_labels(one.old)}, now is {join_labels(one.new)}")
    if not rows:
        raise GandtError(f"{path} holds no labels", reason="NOTHING_TO_DO")
    return exit_codes.PARTIAL if report.rejected or foreign else exit_codes.DONE


def follow(
    client: JobControllerClient,
    campaign_id: str,
    on_change: Callable[[Campaign, Round | None], None],
    check: Callable[[], None] = lambda: None,
    poll_seconds: float = POLL_SECONDS,
) -> Campaign:
    """Watches a campaign until it ends, or until it waits for single steps or is paused; returns it as it is then.

    Args:
        check: called every `poll_seconds`, also while nothing changes; what it raises ends the watch.
    Raises:
        GandtError: the controller does not answer, or the campaign waits for a disk that somebody has to mend.
    """
    from gandt.domain.labeling.campaigns import CampaignState

    campaign = client.get_campaign(campaign_id)
    for campaign, newest in _changes(client, campaign_id, check, poll_seconds):
        on_change(campaign, newest)
        if campaign.state in (CampaignState.PAUSED, CampaignState.MANUAL):
            break
    return campaign


def _changes(
    client: JobControllerClient, campaign_id: str, check: Callable[[], None], poll_seconds: float
) -> Iterator[tuple[Campaign, Round | None]]:
    """What `watch_campaign` gives, with `check` called in between: the stream waits as long as nothing changes."""
    found: queue.SimpleQueue[tuple[Campaign, Round | None] | GandtError | None] = queue.SimpleQueue()

    def watch() -> None:
        try:
            for change in client.watch_campaign(campaign_id):
                found.put(change)
        except GandtError as error:
            found.put(error)
        else:
            found.put(None)

    # A watch that is given up ends with the command's channel.
    threading.Thread(target=watch, name="watch", daemon=True).start()
    while True:
        check()
        try:
            change = found.get(timeout=poll_seconds)
        except queue.Empty:
            continue
        if change is None:
            return
        if isinstance(change, GandtError):
            raise change
        yield change
