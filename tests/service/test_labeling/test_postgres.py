# SPDX-License-Identifier: GPL-3.0-or-later
"""The same service on PostgreSQL: migrations, leases, answers, results."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any


def test_a_job_on_postgres(start_labeling: Callable[..., Any], postgres_database: str) -> None:
    service = start_labeling(database_url=postgres_database)
    service.upload("pg", pages=2)
    tags = [{"Key": "gandt:campaign", "Value": "parties"}]
    service.sagemaker.create_labeling_job(**service.request("pg", slots=2, Tags=tags))
    service.wait_for("pg", "InProgress")
    workers = [service.worker(), service.worker()]
    for worker in workers:
        for _ in range(2):
            lease = worker.first()
            path = f"/api/leases/{lease['lease']}"
            assert worker.call("PUT", f"{path}/draft", {"answer": {"labels-0": "[]"}}).status == 204
            body = {"answer": {"labels-0": '["cat"]'}, "active_s": 1}
            assert worker.call("POST", f"{path}/submit", body).status == 200
            assert worker.call("POST", f"{path}/submit", body).status == 200
    found = service.wait_for("pg", "Completed")
    assert found["LabelCounters"]["HumanLabeled"] == 2
    body = service.s3.get_object(Bucket="gandt", Key="out/pg/manifests/output/output.manifest")["Body"].read()
    assert [len(json.loads(line)["labels"]["responses"]) for line in body.splitlines()] == [2, 2]
    assert service.sagemaker.list_labeling_jobs(NameContains="PG")["LabelingJobSummaryList"]
    service.stop()
