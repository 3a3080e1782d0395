# SPDX-License-Identifier: GPL-3.0-or-later
"""The labeling service's tables: jobs, their tasks (one manifest line each), assignments, batches and workers.

Times are epoch seconds of the engine's steady clock (float, UTC). JSON is kept as text so that what a customer
or a worker sent comes back byte for byte on either database.
"""

from __future__ import annotations

from sqlalchemy import Column, Double, ForeignKey, Index, Integer, MetaData, String, Table, Text, text

METADATA = MetaData()

# Job states are Ground Truth's own words.
LIVE_JOBS = ("Initializing", "InProgress", "Stopping")
TERMINAL_JOBS = ("Completed", "Failed", "Stopped")

# waiting -> open -> closed -> batched -> labeled | failed; waiting -> skipped; a stop makes the rest `unreached`.
FINAL_TASKS = ("labeled", "failed", "skipped", "unreached")

jobs = Table(
    "jobs",
    METADATA,
    Column("job_id", Integer, primary_key=True),
    Column("name", String(63), nullable=False),
    Column("name_key", String(63), nullable=False, unique=True),  # lower case: names ignore case, for ever
    Column("arn", String(2048), nullable=False),
    Column("reference_code", String(64), nullable=False),
    Column("status", String(16), nullable=False, index=True),
    Column("failure_reason", Text, nullable=False, server_default=""),
    Column("request", Text, nullable=False),  # JSON of CreateLabelingJob without Tags
    Column("tags", Text, nullable=False),  # JSON object
    Column("campaign", String(256), nullable=False, server_default=""),
    Column("workteam", String(256), nullable=False, server_default=""),
    Column("template", Text, nullable=False, server_default=""),
    Column("label_categories", Text, nullable=False, server_default=""),  # JSON list, "" when none was given
    Column("created_at", Double, nullable=False),
    Column("modified_at", Double, nullable=False),
    Column("stop_at", Double),  # while Stopping: when running leases are cut
    Column("paused", Integer, nullable=False, server_default="0"),  # 1: no new leases; running ones may finish
)

tasks = Table(
    "tasks",
    METADATA,
    Column("job_id", Integer, ForeignKey("jobs.job_id"), primary_key=True),
    Column("task_no", Integer, primary_key=True),  # line of the manifest from 0; the data object id
    Column("line", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("input", Text, nullable=False, server_default=""),  # JSON of task.input
    Column("attempts", Integer, nullable=False, server_default="0"),  # calls of the pre-annotation Lambda that failed
    Column("retry_at", Double, nullable=False, server_default="0"),
    Column("expires_at", Double),  # end of availability
    Column("taken", Integer, nullable=False, server_default="0"),  # slots leased or done
    Column("done", Integer, nullable=False, server_default="0"),
    Column("declined", Integer, nullable=False, server_default="0"),
    Column("closed_at", Double),
    Column("batch_no", Integer),
    Column("outcome", Text, nullable=False, server_default=""),  # JSON of the keys the output line gains
)
Index("tasks_by_state", tasks.c.job_id, tasks.c.state, tasks.c.task_no)
# All that the choice of a worker's next task looks at, so that it reads no row: rows hold whole pages.
Index("tasks_free", tasks.c.job_id, tasks.c.state, tasks.c.taken, tasks.c.task_no, tasks.c.declined)

assignments = Table(
    "assignments",
    METADATA,
    Column("lease_id", String(64), primary_key=True),
    Column("job_id", Integer, nullable=False),
    Column("task_no", Integer, nullable=False),
    Column("worker_id", String(128), nullable=False),
    Column("state", String(16), nullable=False),  # leased, done, declined, returned, expired, closed
    Column("leased_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("finished_at", Double),
    Column("active_seconds", Double, nullable=False, server_default="0"),
    Column("draft", Text, nullable=False, server_default=""),
    Column("answer_id", String(64), nullable=False, server_default=""),
    Column("answer", Text, nullable=False, server_default=""),  # JSON object, as stored for ever
    Column("answer_sha256", String(64), nullable=False, server_default=""),
    Column("reason", Text, nullable=False, server_default=""),
)
_HOLDS = text("state IN ('leased', 'done', 'declined')")
# The last line of defence: one worker holds, answers or declines one task once, whatever races happen above it.
Index(
    "assignments_once",
    assignments.c.job_id,
    assignments.c.task_no,
    assignments.c.worker_id,
    unique=True,
    sqlite_where=_HOLDS,
    postgresql_where=_HOLDS,
)
Index("assignments_by_expiry", assignments.c.state, assignments.c.expires_at)
Index("assignments_by_worker", assignments.c.worker_id, assignments.c.state, assignments.c.job_id)
Index("assignments_by_finish", assignments.c.state, assignments.c.finished_at)

batches = Table(
    "batches",
    METADATA,
    Column("job_id", Integer, ForeignKey("jobs.job_id"), primary_key=True),
    Column("batch_no", Integer, primary_key=True),  # from 1; the iteration in S3 keys
    Column("state", String(16), nullable=False),  # pending, written, called, applied
    Column("created_at", Double, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("retry_at", Double, nullable=False, server_default="0"),
    Column("response", Text, nullable=False, server_default=""),  # JSON the post-annotation Lambda returned
    Column("failure", Text, nullable=False, server_default=""),
    Column("called_at", Double),
)

# Only for jobs with the tag gandt:campaign.
task_images = Table(
    "task_images",
    METADATA,
    Column("job_id", Integer, primary_key=True),
    Column("task_no", Integer, primary_key=True),
    Column("image_id", String(512), primary_key=True),
)
Index("task_images_by_image", task_images.c.image_id, task_images.c.job_id, task_images.c.task_no)

seen_images = Table(
    "seen_images",
    METADATA,
    Column("campaign", String(256), primary_key=True),
    Column("worker_id", String(128), primary_key=True),
    Column("image_id", String(512), primary_key=True),
    Column("job_id", Integer, nullable=False),
    Column("task_no", Integer, nullable=False),
)

workers = Table(
    "workers",
    METADATA,
    Column("worker_id", String(128), primary_key=True),
    Column("kind", String(16), nullable=False),  # team, personal
    Column("created_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False, index=True),
    Column("state", String(16), nullable=False, server_default="active"),  # active, paused
    Column("state_reason", String(256), nullable=False, server_default=""),
)

# Who did what; appended to, never changed.
audit = Table(
    "audit",
    METADATA,
    Column("entry_id", Integer, primary_key=True),
    Column("at", Double, nullable=False, index=True),
    Column("actor", String(128), nullable=False),  # operator, the API's access key, a worker's pseudonym, the service
    Column("action", String(64), nullable=False),
    Column("object", String(512), nullable=False, server_default=""),
    Column("detail", Text, nullable=False, server_default=""),
)
