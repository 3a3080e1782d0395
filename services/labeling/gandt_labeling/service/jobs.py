# SPDX-License-Identifier: GPL-3.0-or-later
"""The SageMaker side of a labeling job: create, describe, list, stop, tags.

Requests come in validated (`gandt_labeling.validation`); answers go out as the JSON that the API sends.
"""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, func, or_, select, update

from gandt.domain.errors import AlreadyExists, GandtError, InvalidInput, NotFound, WrongState
from gandt_labeling.service import audit
from gandt_labeling.service.page_tokens import fingerprint, open_page
from gandt_labeling.service.spec import CAMPAIGN_TAG, Job, Json, job_of
from gandt_labeling.service.steady_clock import SteadyClock
from gandt_labeling.service.tokens import Tokens
from gandt_labeling.store.database import Database
from gandt_labeling.store.schema import TERMINAL_JOBS, jobs, tasks

DEFAULT_PAGE = 10  # small, as in the reference, so that a caller who forgets to page notices
MAX_TAGS = 50
STOP_SECONDS = 60.0  # how long running leases may still finish after a stop

_ALPHABET = string.ascii_letters + string.digits
_SORT = {"Name": jobs.c.name_key, "CreationTime": jobs.c.created_at, "Status": jobs.c.status}


@dataclass(frozen=True, slots=True)
class Home:
    """The region and account that ARNs of this deployment name."""

    region: str = "local-1"
    account: str = "000000000000"


class LabelingJobs:
    """Use cases of the API; each call is one transaction.

    Args:
        wake: tells the engine that there is something to do.
        disk_trouble: the full or read-only disk that a job of this name waits for, if any.
    """

    def __init__(
        self,
        database: Database,
        time: SteadyClock,
        tokens: Tokens,
        home: Home,
        wake: Callable[[], None],
        disk_trouble: Callable[[str], GandtError | None],
    ) -> None:
        self._database = database
        self._time = time
        self._tokens = tokens
        self._home = home
        self._wake = wake
        self._disk_trouble = disk_trouble

    def create(self, request: Mapping[str, Any]) -> Json:
        """CreateLabelingJob.

        Raises:
            AlreadyExists: the name was used before, in any spelling.
        """
        now = self._time.now()
        name = request["LabelingJobName"]
        arn = f"arn:aws:sagemaker:{self._home.region}:{self._home.account}:labeling-job/{name.lower()}"
        tags = {tag["Key"]: tag["Value"] for tag in request.get("Tags", [])}
        row = {
            "name": name,
            "name_key": name.lower(),
            "arn": arn,
            "reference_code": self._home.account + "".join(secrets.choice(_ALPHABET) for _ in range(16)),
            "status": "Initializing",
            "request": json.dumps({key: value for key, value in request.items() if key != "Tags"}),
            "tags": json.dumps(tags),
            "campaign": tags.get(CAMPAIGN_TAG, ""),
            "workteam": request["HumanTaskConfig"]["WorkteamArn"],
            "created_at": now,
            "modified_at": now,
        }

        def insert(connection: Connection) -> None:
            if connection.execute(select(jobs.c.job_id).where(jobs.c.name_key == name.lower())).first():
                raise AlreadyExists(f"Labeling job {name} already exists", kind="labeling job", id=name)
            connection.execute(jobs.insert().values(row))
            audit.note(connection, now, "api", "create job", name)

        self._database.write(insert)
        self._wake()
        return {"LabelingJobArn": arn}

    def describe(self, name: str) -> Json:
        """DescribeLabelingJob.

        Raises:
            NotFound: no job has that name.
            WrongState: the job waits until a disk has space or can be written again; a caller must not poll for ever.
        """
        with self._database.read() as connection:
            job = _by_name(connection, name)
            trouble = self._disk_trouble(job.spec.name)
            if trouble is not None and job.status not in TERMINAL_JOBS:
                raise trouble
            counters = _counters(connection, [job.job_id])[job.job_id]
        answer = {
            "LabelingJobStatus": job.status,
            "LabelCounters": counters,
            "CreationTime": job.created_at,
            "LastModifiedTime": job.modified_at,
            "JobReferenceCode": job.reference_code,
            "LabelingJobArn": job.arn,
            **job.request,
            "OutputConfig": {"KmsKeyId": "", **job.request["OutputConfig"]},
            "Tags": _tag_list(job.tags),
            "LabelingJobOutput": {"OutputDatasetS3Uri": job.spec.manifest_out},
        }
        if job.failure_reason:
            answer["FailureReason"] = job.failure_reason
        return answer

    def list_jobs(self, request: Mapping[str, Any]) -> Json:
        """ListLabelingJobs.

        Raises:
            InvalidInput: the page token belongs to another filter, or was not made here.
        """
        sort = _SORT[request.get("SortBy", "CreationTime")]
        descending = request.get("SortOrder", "Ascending") == "Descending"
        size = request.get("MaxResults", DEFAULT_PAGE)
        mark = fingerprint(request)
        query = _filtered(select(jobs), request)
        if "NextToken" in request:
            claims = open_page(self._tokens, request["NextToken"], mark)
            after, last = claims["k"], claims["i"]
            beyond = (sort < after) if descending else (sort > after)
            tie = (jobs.c.job_id < last) if descending else (jobs.c.job_id > last)
            query = query.where(or_(beyond, and_(sort == after, tie)))
        order = (sort.desc(), jobs.c.job_id.desc()) if descending else (sort, jobs.c.job_id)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(*order).limit(size + 1)).all()
            page = [job_of(row) for row in rows[:size]]
            counters = _counters(connection, [job.job_id for job in page])
        answer: Json = {"LabelingJobSummaryList": [_summary(job, counters[job.job_id]) for job in page]}
        if len(rows) > size:
            key = rows[size - 1]._mapping[sort.name]
            answer["NextToken"] = self._tokens.make("page token", {"f": mark, "k": key, "i": page[-1].job_id})
        return answer

    def stop(self, name: str) -> Json:
        """StopLabelingJob: no new leases, running ones get up to a minute; a second stop changes nothing.

        Raises:
            NotFound: no job has that name.
            WrongState: the job is finished.
        """

        def begin(connection: Connection) -> None:
            job = _by_name(connection, name)
            if job.status in TERMINAL_JOBS:
                raise WrongState(
                    f"The labeling job {job.spec.name} cannot be stopped: its status is {job.status}",
                    kind="labeling job",
                    id=job.spec.name,
                    state=job.status,
                )
            begin_stop(connection, job, self._time.now())
            audit.note(connection, self._time.now(), "api", "stop job", job.spec.name)

        self._database.write(begin)
        self._wake()
        return {}

    def add_tags(self, arn: str, new: list[dict[str, str]]) -> Json:
        """AddTags: sets these tags, keeps the others.

        Raises:
            NotFound: no job has that ARN.
            InvalidInput: there would be more than 50 tags.
        """

        def merge(connection: Connection) -> dict[str, str]:
            job = _by_arn(connection, arn)
            tags = {**job.tags, **{tag["Key"]: tag["Value"] for tag in new}}
            if len(tags) > MAX_TAGS:
                raise InvalidInput(f"{arn} would have {len(tags)} tags; the limit is {MAX_TAGS}", field="Tags")
            values = {"tags": json.dumps(tags), "modified_at": self._time.now()}
            connection.execute(update(jobs).where(jobs.c.job_id == job.job_id).values(values))
            return tags

        return {"Tags": _tag_list(self._database.write(merge))}

    def delete_tags(self, arn: str, keys: list[str]) -> Json:
        """DeleteTags: keys that are not there are no error.

        Raises:
            NotFound: no job has that ARN.
        """

        def drop(connection: Connection) -> None:
            job = _by_arn(connection, arn)
            values = {"tags": json.dumps({key: value for key, value in job.tags.items() if key not in keys})}
            connection.execute(update(jobs).where(jobs.c.job_id == job.job_id).values(values))

        self._database.write(drop)
        return {}

    def tags(self, arn: str) -> Json:
        """ListTags, all on one page (a job has at most 50).

        Raises:
            NotFound: no job has that ARN.
        """
        with self._database.read() as connection:
            return {"Tags": _tag_list(_by_arn(connection, arn).tags)}


def begin_stop(connection: Connection, job: Job, now: float, reason: str = "") -> None:
    """Move a live job to Stopping (once)."""
    values = {
        "status": "Stopping",
        "modified_at": now,
        "stop_at": now + min(job.spec.time_limit, STOP_SECONDS),
        "failure_reason": reason,
    }
    live = jobs.c.status.in_(("Initializing", "InProgress"))
    connection.execute(update(jobs).where(jobs.c.job_id == job.job_id, live).values(values))


def _by_name(connection: Connection, name: str) -> Job:
    row = connection.execute(select(jobs).where(jobs.c.name_key == name.lower())).first()
    if row is None:
        raise NotFound(f"Labeling job {name} does not exist", kind="labeling job", id=name)
    return job_of(row)


def _by_arn(connection: Connection, arn: str) -> Job:
    row = connection.execute(select(jobs).where(jobs.c.arn == arn)).first()
    if row is None:
        raise NotFound(f"Resource {arn} does not exist", kind="labeling job", id=arn)
    return job_of(row)


def _counters(connection: Connection, job_ids: list[int]) -> dict[int, dict[str, int]]:
    counts: dict[int, dict[str, int]] = {job_id: {} for job_id in job_ids}
    query = (
        select(tasks.c.job_id, tasks.c.state, func.count())
        .where(tasks.c.job_id.in_(job_ids))
        .group_by(tasks.c.job_id, tasks.c.state)
    )
    for job_id, state, count in connection.execute(query):
        counts[job_id][state] = count
    return {
        job_id: {
            "TotalLabeled": by_state.get("labeled", 0),
            "HumanLabeled": by_state.get("labeled", 0),
            "MachineLabeled": 0,
            "FailedNonRetryableError": by_state.get("failed", 0),
            "Unlabeled": sum(by_state.values()) - by_state.get("labeled", 0) - by_state.get("failed", 0),
        }
        for job_id, by_state in counts.items()
    }


def _summary(job: Job, counters: dict[str, int]) -> Json:
    summary: Json = {
        "LabelingJobName": job.spec.name,
        "LabelingJobArn": job.arn,
        "CreationTime": job.created_at,
        "LastModifiedTime": job.modified_at,
        "LabelingJobStatus": job.status,
        "LabelCounters": counters,
        "WorkteamArn": job.request["HumanTaskConfig"]["WorkteamArn"],
        "LabelingJobOutput": {"OutputDatasetS3Uri": job.spec.manifest_out},
        "InputConfig": job.request["InputConfig"],
    }
    optional = {
        "PreHumanTaskLambdaArn": job.spec.pre_lambda,
        "AnnotationConsolidationLambdaArn": job.spec.post_lambda,
        "FailureReason": job.failure_reason,
    }
    return summary | {key: value for key, value in optional.items() if value}


def _filtered(query: Select[Any], request: Mapping[str, Any]) -> Select[Any]:
    conditions: dict[str, Callable[[Any], ColumnElement[bool]]] = {
        "CreationTimeAfter": lambda value: jobs.c.created_at > value,
        "CreationTimeBefore": lambda value: jobs.c.created_at < value,
        "LastModifiedTimeAfter": lambda value: jobs.c.modified_at > value,
        "LastModifiedTimeBefore": lambda value: jobs.c.modified_at < value,
        "NameContains": lambda value: jobs.c.name_key.contains(value.lower(), autoescape=True),
        "StatusEquals": lambda value: jobs.c.status == value,
    }
    return query.where(*(condition(request[key]) for key, condition in conditions.items() if key in request))


def _tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]
