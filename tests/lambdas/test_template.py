# SPDX-License-Identifier: GPL-3.0-or-later
"""The template that puts the Lambdas on AWS: valid, and with no right that is not listed here.

cfn-lint takes any word for an action (`iam:PassTheRole` passes), so the actions are compared with a list.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cfnlint import decode
from cfnlint.api import ManualArgs, lint_file

from gandt.adapters.sagemaker import SageMakerJobs
from tools import lambdas

TEMPLATE = lambdas.ROOT / "lambdas" / "template.yaml"
LOGS = {"logs:CreateLogStream", "logs:PutLogEvents"}
ALLOWED = {
    "PreAnnotationRole": LOGS,
    "AnnotationConsolidationRole": LOGS | {"s3:GetObject"},
    "JobRole": LOGS
    | {
        "s3:ListBucket",
        "s3:GetBucketLocation",
        "s3:GetObject",
        "s3:PutObject",
        "s3:AbortMultipartUpload",
        "lambda:InvokeFunction",
        "cloudwatch:PutMetricData",
        "logs:CreateLogGroup",
        "logs:DescribeLogStreams",
    },
    "ControllerPolicy": {
        "sagemaker:CreateLabelingJob",
        "sagemaker:DescribeLabelingJob",
        "sagemaker:StopLabelingJob",
        "sagemaker:AddTags",
        "sagemaker:ListLabelingJobs",
        "sagemaker:RenderUiTemplate",
        "sagemaker:DescribeWorkteam",
        "iam:PassRole",
        "lambda:GetFunction",
        "s3:GetBucketCORS",
        "s3:GetBucketLocation",
        "s3:ListBucket",
        "s3:PutObject",
        "s3:GetObject",
        "sqs:ReceiveMessage",
        "sqs:DeleteMessage",
        "sqs:GetQueueAttributes",
    },
}
ON_EVERYTHING = {
    "cloudwatch:PutMetricData",
    "sagemaker:ListLabelingJobs",
    "sagemaker:RenderUiTemplate",
    "sagemaker:DescribeWorkteam",
}


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    template, problems = decode.decode(str(TEMPLATE))
    assert not problems
    return dict(template["Resources"])


def statements(value: Any) -> Iterator[dict[str, Any]]:
    """Every policy statement below a part of the template."""
    if isinstance(value, dict):
        if "Effect" in value:
            yield value
        for part in value.values():
            yield from statements(part)
    elif isinstance(value, list):
        for part in value:
            yield from statements(part)


def rights(resource: dict[str, Any]) -> list[dict[str, Any]]:
    """What a role may do; who may assume it is another matter."""
    properties = resource["Properties"]
    return list(statements([properties.get("Policies"), properties.get("PolicyDocument")]))


def actions(statement: dict[str, Any]) -> set[str]:
    return set(statement["Action"]) if isinstance(statement["Action"], list) else {statement["Action"]}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_cfn_lint_finds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [str(match) for match in lint_file(TEMPLATE, ManualArgs(regions=["eu-west-1"]))] == []


@pytest.mark.parametrize("name", ALLOWED)
def test_a_role_has_the_rights_that_it_uses_and_no_other(resources: dict[str, Any], name: str) -> None:
    found = rights(resources[name])
    assert set().union(*(actions(statement) for statement in found)) == ALLOWED[name]
    for statement in found:
        assert statement["Effect"] == "Allow"
        if statement["Resource"] == "*":
            assert actions(statement) <= ON_EVERYTHING


def test_no_other_resource_gives_rights_to_a_principal_of_ours(resources: dict[str, Any]) -> None:
    givers = {name for name, resource in resources.items() if rights(resource)}
    assert givers == {*ALLOWED, "JobStateQueuePolicy"}
    (queue,) = rights(resources["JobStateQueuePolicy"])
    assert (actions(queue), queue["Principal"]) == ({"sqs:SendMessage"}, {"Service": "events.amazonaws.com"})
    assert "Condition" in queue


def test_the_job_role_can_be_passed_to_ground_truth_only(resources: dict[str, Any]) -> None:
    (passing,) = [s for s in rights(resources["ControllerPolicy"]) if "iam:PassRole" in actions(s)]
    assert passing["Condition"] == {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
    assert list(passing["Resource"].values()) == [["JobRole", "Arn"]]


def test_the_controller_may_make_every_call_that_it_makes() -> None:
    source = Path(sys.modules[SageMakerJobs.__module__].__file__ or "").read_text(encoding="utf-8")
    made = set(re.findall(r"""client\.([a-z]+_[a-z_]+)\(|get_paginator\("([a-z_]+)"\)""", source))
    names = {call or paginator for call, paginator in made} - {"get_paginator"}
    assert "create_labeling_job" in names
    assert {"sagemaker:" + name.title().replace("_", "") for name in names} <= ALLOWED["ControllerPolicy"]


def test_the_archives_are_small_and_always_the_same(tmp_path: Path, resources: dict[str, Any]) -> None:
    first, second = lambdas.build(tmp_path / "a"), lambdas.build(tmp_path / "b")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert all(path.stat().st_size < lambdas.MOST_BYTES for path in first)
    functions = [r["Properties"] for r in resources.values() if r["Type"] == "AWS::Serverless::Function"]
    assert sorted(f["CodeUri"] for f in functions) == sorted(f"dist/{path.name}" for path in first)
    assert sorted(f["Handler"] for f in functions) == sorted(f"{path.stem}.lambda_handler" for path in first)
