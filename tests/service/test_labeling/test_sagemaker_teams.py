# SPDX-License-Identifier: GPL-3.0-or-later
"""boto3 calls around labeling jobs: the jobs of a team, the teams, a template's preview, tags."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

ROLE = "arn:aws:iam::000000000000:role/gandt"
TEAM = "arn:aws:sagemaker:local-1:000000000000:workteam/private-crowd/{}"


def create(service: Any, name: str, team: str, **changes: Any) -> None:
    service.upload(name)
    service.sagemaker.create_labeling_job(**service.request(name, WorkteamArn=TEAM.format(team), **changes))


def test_the_jobs_of_a_team_page_by_page(service: Any) -> None:
    for number in range(5):
        create(service, f"ours-{number}", "night-shift", slots=2)
    create(service, "others", "day-shift")
    pages = service.sagemaker.get_paginator("list_labeling_jobs_for_workteam").paginate(
        WorkteamArn=TEAM.format("night-shift"), PaginationConfig={"PageSize": 2}
    )
    found = [job for page in pages for job in page["LabelingJobSummaryList"]]
    assert [job["LabelingJobName"] for job in found] == [f"ours-{number}" for number in range(5)]
    service.wait_for("ours-0", "InProgress")
    (job,) = service.sagemaker.list_labeling_jobs_for_workteam(
        WorkteamArn=TEAM.format("night-shift"), JobReferenceCodeContains=found[0]["JobReferenceCode"]
    )["LabelingJobSummaryList"]
    assert job["WorkRequesterAccountId"] == "000000000000"
    assert job["NumberOfHumanWorkersPerDataObject"] == 2
    assert job["LabelCounters"] == {"HumanLabeled": 0, "PendingHuman": 1, "Total": 1}
    newest = service.sagemaker.list_labeling_jobs_for_workteam(
        WorkteamArn=TEAM.format("night-shift"), SortOrder="Descending", MaxResults=1
    )
    assert [job["LabelingJobName"] for job in newest["LabelingJobSummaryList"]] == ["ours-4"]
    with pytest.raises(ClientError) as caught:  # its token belongs to another question
        service.sagemaker.list_labeling_jobs_for_workteam(
            WorkteamArn=TEAM.format("day-shift"), NextToken=newest["NextToken"]
        )
    assert caught.value.response["Error"]["Code"] == "ValidationException"


def test_an_unknown_team_is_not_found(service: Any) -> None:
    with pytest.raises(service.sagemaker.exceptions.ResourceNotFound):
        service.sagemaker.list_labeling_jobs_for_workteam(WorkteamArn=TEAM.format("nobody"))
    with pytest.raises(ClientError) as caught:
        service.sagemaker.describe_workteam(WorkteamName="nobody")
    assert caught.value.response["Error"]["Code"] == "ValidationException"


def test_teams_are_those_that_jobs_name_and_our_own(service: Any) -> None:
    create(service, "for-a-team", "evening-shift")
    pages = service.sagemaker.get_paginator("list_workteams").paginate(PaginationConfig={"PageSize": 1})
    names = {team["WorkteamName"] for page in pages for team in page["Workteams"]}
    assert {"gandt", "evening-shift"} <= names
    team = service.sagemaker.describe_workteam(WorkteamName="evening-shift")["Workteam"]
    assert team["WorkteamArn"] == TEAM.format("evening-shift")
    assert service.sagemaker.describe_workteam(WorkteamName="gandt")["Workteam"]["Description"]
    only = service.sagemaker.list_workteams(NameContains="evening", SortBy="Name", SortOrder="Descending")
    assert [team["WorkteamName"] for team in only["Workteams"]] == ["evening-shift"]


def test_a_template_is_rendered_for_a_look(service: Any) -> None:
    answer = service.sagemaker.render_ui_template(
        UiTemplate={"Content": "<crowd-form>{{ task.input.name }} {{ task.input.n | plus: 1 }}</crowd-form>"},
        Task={"Input": json.dumps({"name": "<b>Kid's</b>", "n": 1})},
        RoleArn=ROLE,
    )
    assert answer["RenderedContent"] == "<crowd-form>&lt;b&gt;Kid&#39;s&lt;/b&gt; 2</crowd-form>"
    assert answer["Errors"] == []


@pytest.mark.parametrize("content", ["{% for x in %}", "{{ 1 | nothing_like_this }}", "{% include 'other' %}"])
def test_a_templates_fault_is_told_in_the_answer(service: Any, content: str) -> None:
    answer = service.sagemaker.render_ui_template(UiTemplate={"Content": content}, Task={"Input": "{}"}, RoleArn=ROLE)
    assert answer["RenderedContent"] == ""
    (error,) = answer["Errors"]
    assert error["Code"] == "TemplateError"
    assert "template" in error["Message"]


@pytest.mark.parametrize(
    "request_", [{"Task": {"Input": "{}"}}, {"UiTemplate": {"Content": "x"}, "Task": {"Input": "{a"}}]
)
def test_what_cannot_be_rendered_is_refused(service: Any, request_: dict[str, Any]) -> None:
    with pytest.raises(ClientError) as caught:
        service.sagemaker.render_ui_template(RoleArn=ROLE, **request_)
    assert caught.value.response["Error"]["Code"] == "ValidationException"


def test_tags_come_and_go(service: Any) -> None:
    create(service, "tagged", "gandt", Tags=[{"Key": "a", "Value": "1"}])
    arn = service.sagemaker.describe_labeling_job(LabelingJobName="tagged")["LabelingJobArn"]
    service.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "b", "Value": "2"}])
    service.sagemaker.delete_tags(ResourceArn=arn, TagKeys=["a", "never-there"])
    assert service.sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "b", "Value": "2"}]
