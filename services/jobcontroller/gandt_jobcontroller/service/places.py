# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the controller's objects lie, and on whose behalf labeling jobs run."""

from __future__ import annotations

from dataclasses import dataclass

from gandt.domain.images import join_uri


@dataclass(frozen=True, slots=True)
class Places:
    """Bucket, prefixes and the names that a labeling job needs.

    Attributes:
        bucket: for thumbnails, manifests, templates and the backend's output.
        job_prefix: begins every job's name; holds the deployment's name where several share an account.
        role_arn, workteam_arn, pre_lambda_arn, post_lambda_arn: as CreateLabelingJob takes them.
    """

    bucket: str
    job_prefix: str
    role_arn: str
    workteam_arn: str
    pre_lambda_arn: str
    post_lambda_arn: str

    def thumbnail(self, image_id: str) -> str:
        """URI of an image's thumbnail."""
        return join_uri(self.bucket, f"thumbs/{image_id}.jpg")

    def templates(self) -> str:
        """Prefix of the page templates."""
        return join_uri(self.bucket, "templates")

    def manifests(self, campaign_id: str, round_number: int) -> str:
        """Prefix of a round's manifests."""
        return join_uri(self.bucket, f"manifests/{campaign_id}/r{round_number}")

    def output(self, campaign_id: str, round_number: int) -> str:
        """Where the backend writes below."""
        return join_uri(self.bucket, f"output/{campaign_id}/r{round_number}")
