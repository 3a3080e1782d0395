# SPDX-License-Identifier: GPL-3.0-or-later
"""Work teams as boto3 scripts ask for them: the jobs of a team, and the teams there are.

Nobody makes a team here: a job may name any well-formed ARN, and people come by invitation. So the teams are those
that jobs name, and the deployment's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, func, or_, select

from gandt.domain.errors import InvalidInput, NotFound
from gandt_labeling.service.jobs import DEFAULT_PAGE, Home
from gandt_labeling.service.page_tokens import fingerprint, open_page
from gandt_labeling.service.parts import count_tasks
from gandt_labeling.service.spec import Json, job_of
from gandt_labeling.service.tokens import Tokens
from gandt_labeling.store.database import Database
from gandt_labeling.store.schema import jobs, tasks

OWN_TEAM = "gandt"


@dataclass(frozen=True, slots=True)
class _Team:
    name: str
    arn: str
    created_at: float


class Workteams:
    """ListLabelingJobsForWorkteam, DescribeWorkteam, ListWorkteams."""

    def __init__(self, database: Database, tokens: Tokens, home: Home) -> None:
        self._database = database
        self._tokens = tokens
        self._home = home

    def jobs_of(self, request: Mapping[str, Any]) -> Json:
        """ListLabelingJobsForWorkteam.

        Raises:
            NotFound: no job names this team, and it is not our own.
            InvalidInput: the page token belongs to another filter, or was not made here.
        """
        arn = request["WorkteamArn"]
        if arn not in {team.arn for team in self._teams()}:
            raise NotFound(f"Workteam {arn} does not exist", kind="work team", id=arn)
        descending = request.get("SortOrder", "Ascending") == "Descending"
        size, mark = request.get("MaxResults", DEFAULT_PAGE), fingerprint(request)
        query = select(jobs).where(jobs.c.workteam == arn)
        if "CreationTimeAfter" in request:
            query = query.where(jobs.c.created_at > request["CreationTimeAfter"])
        if "CreationTimeBefore" in request:
            query = query.where(jobs.c.created_at < request["CreationTimeBefore"])
        if "JobReferenceCodeContains" in request:
            text = request["JobReferenceCodeContains"]
            query = query.where(jobs.c.reference_code.contains(text, autoescape=True))
        if "NextToken" in request:
            claims = open_page(self._tokens, request["NextToken"], mark)
            after, last = claims["k"], claims["i"]
            beyond = jobs.c.created_at < after if descending else jobs.c.created_at > after
            tie = jobs.c.job_id < last if descending else jobs.c.job_id > last
            query = query.where(or_(beyond, and_(jobs.c.created_at == after, tie)))
        order = (jobs.c.created_at, jobs.c.job_id)
        query = query.order_by(*(column.desc() for column in order) if descending else order)
        with self._database.read() as connection:
            rows = connection.execute(query.limit(size + 1)).all()
            found = [job_of(row) for row in rows[:size]]
            counts = {job.job_id: count_tasks(connection, tasks.c.job_id == job.job_id) for job in found}
        answer: Json = {
            "LabelingJobSummaryList": [
                {
                    "LabelingJobName": job.spec.name,
                    "JobReferenceCode": job.reference_code,
                    "WorkRequesterAccountId": self._home.account,
                    "CreationTime": job.created_at,
                    "LabelCounters": _counters(counts[job.job_id]),
                    "NumberOfHumanWorkersPerDataObject": job.spec.slots,
                }
                for job in found
            ]
        }
        if len(rows) > size:
            last_job = found[-1]
            answer["NextToken"] = self._tokens.make(
                "page token", {"f": mark, "k": last_job.created_at, "i": last_job.job_id}
            )
        return answer

    def describe(self, name: str) -> Json:
        """DescribeWorkteam.

        Raises:
            InvalidInput: no such team; the API has no other error for it.
        """
        for team in self._teams():
            if team.name.lower() == name.lower():
                return {"Workteam": self._json(team)}
        raise InvalidInput(f"The work team {name} does not exist", field="WorkteamName")

    def list_teams(self, request: Mapping[str, Any]) -> Json:
        """ListWorkteams.

        Raises:
            InvalidInput: the page token belongs to another filter, or was not made here.
        """
        text = request.get("NameContains", "").lower()
        teams = [team for team in self._teams() if text in team.name.lower()]
        by_name = request.get("SortBy", "CreateDate") == "Name"
        teams.sort(key=lambda team: (team.name.lower() if by_name else team.created_at, team.arn))
        if request.get("SortOrder") == "Descending":
            teams.reverse()
        size, mark = request.get("MaxResults", DEFAULT_PAGE), fingerprint(request)
        start = open_page(self._tokens, request["NextToken"], mark)["k"] if "NextToken" in request else 0
        answer: Json = {"Workteams": [self._json(team) for team in teams[start : start + size]]}
        if start + size < len(teams):
            answer["NextToken"] = self._tokens.make("page token", {"f": mark, "k": start + size})
        return answer

    def _teams(self) -> list[_Team]:
        own = f"arn:aws:sagemaker:{self._home.region}:{self._home.account}:workteam/private-crowd/{OWN_TEAM}"
        query = select(jobs.c.workteam, func.min(jobs.c.created_at)).group_by(jobs.c.workteam)
        with self._database.read() as connection:
            found = {arn: created_at for arn, created_at in connection.execute(query) if arn}
        return [_Team(arn.rpartition("/")[2], arn, at) for arn, at in {own: 0.0, **found}.items()]

    def _json(self, team: _Team) -> Json:
        return {
            "WorkteamName": team.name,
            "WorkteamArn": team.arn,
            "MemberDefinitions": [{"OidcMemberDefinition": {"Groups": [team.name]}}],
            "Description": "People with an invitation to this labeling service",
            "SubDomain": "",
            "CreateDate": team.created_at,
            "LastUpdatedDate": team.created_at,
        }


def _counters(by_state: Mapping[str, int]) -> dict[str, int]:
    total = sum(by_state.values())
    labeled, failed = by_state.get("labeled", 0), by_state.get("failed", 0)
    ended = labeled + failed + by_state.get("skipped", 0) + by_state.get("unreached", 0)
    return {"HumanLabeled": labeled, "PendingHuman": total - ended, "Total": total}
