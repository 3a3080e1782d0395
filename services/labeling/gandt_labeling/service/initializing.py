# SPDX-License-Identifier: GPL-3.0-or-later
"""Initializing -> InProgress: everything a job refers to is read and checked before a person sees it."""

from __future__ import annotations

import json

from sqlalchemy import Connection, update

from gandt.domain.errors import BackendUnavailable, GandtError, InvalidInput, NotFound
from gandt_labeling.service.manifests import read_manifest
from gandt_labeling.service.parts import Parts
from gandt_labeling.service.spec import Job
from gandt_labeling.store.schema import jobs, tasks

REASON_LIMIT = 1024  # characters of FailureReason in the API


def initialize(parts: Parts, job: Job) -> bool:
    """Read manifest, template and label categories; a fault makes the job `Failed` with a reason that names it.

    Returns:
        Whether the job moved on; False when a store did not answer and the next tick shall try again.
    """
    try:
        lines = read_manifest(parts.objects.get(job.spec.manifest_uri))
        template = _template(parts, job)
        categories = _label_categories(parts, job)
        _check_lambdas(parts, job)
    except BackendUnavailable:
        return False
    except GandtError as error:
        reason = f"ClientError: {error}"[:REASON_LIMIT]
        return parts.set_job(job, ("Initializing",), status="Failed", failure_reason=reason)
    parts.database.write(lambda connection: _load(connection, parts, job, lines, template, categories))
    return True


def load_unreached(parts: Parts, job: Job) -> None:
    """A job stopped before it was read: its lines go out as they came in; an unreadable manifest has none."""
    try:
        lines = read_manifest(parts.objects.get(job.spec.manifest_uri))
    except BackendUnavailable:
        raise
    except GandtError:
        lines = []
    parts.database.write(lambda connection: _load(connection, parts, job, lines, "", ""))


def _load(connection: Connection, parts: Parts, job: Job, lines: list[str], template: str, categories: str) -> None:
    values = {
        "status": "InProgress",
        "template": template,
        "label_categories": categories,
        "modified_at": parts.time.now(),
    }
    change = update(jobs).where(jobs.c.job_id == job.job_id, jobs.c.status == "Initializing").values(values)
    goes_on = connection.execute(change).rowcount == 1  # else it was stopped while we read
    attribute = job.spec.attribute
    rows = []
    for number, line in enumerate(lines):
        # A line that has its label already (an output manifest fed back) is not asked again.
        state = "skipped" if attribute in json.loads(line) else "waiting"
        rows.append({"job_id": job.job_id, "task_no": number, "line": line, "state": state if goes_on else "unreached"})
    if rows:
        connection.execute(tasks.insert(), rows)


def _template(parts: Parts, job: Job) -> str:
    if not job.spec.template_uri:
        raise InvalidInput(
            "this service renders UiTemplateS3Uri only; HumanTaskUiArn names a built-in page of AWS",
            field="UiConfig",
            fix="upload a Liquid template and give its UiTemplateS3Uri",
        )
    data = parts.objects.get(job.spec.template_uri)
    try:
        template = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the template {job.spec.template_uri} is not UTF-8", field="UiTemplateS3Uri") from error
    parts.pages.check(template)
    return template


def _label_categories(parts: Parts, job: Job) -> str:
    uri = job.spec.label_categories_uri
    if not uri:
        return ""
    try:
        labels = [entry["label"] for entry in json.loads(parts.objects.get(uri))["labels"]]
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(
            f'the label categories {uri} are not {{"labels": [{{"label": ...}}]}}', field="LabelCategoryConfigS3Uri"
        ) from error
    return json.dumps(labels)


def _check_lambdas(parts: Parts, job: Job) -> None:
    for arn in (job.spec.pre_lambda, job.spec.post_lambda):
        if arn and not parts.lambdas.knows(arn):
            raise NotFound(
                f"no handler is configured for the Lambda {arn}",
                kind="lambda",
                id=arn,
                fix="add it to GANDT_LABELING__LAMBDAS",
            )
