# SPDX-License-Identifier: GPL-3.0-or-later
"""FindNearDuplicates of gandt.vectorsearch.v1: requests and reports, to and from the domain's records."""

from __future__ import annotations

from collections.abc import Iterator

from gandt.api.vectorsearch.v1 import vectorsearch_pb2 as pb
from gandt.domain.errors import InvalidInput
from gandt.domain.filters import Filter
from gandt.domain.near_duplicates import CONTENT_FIELD, DEFAULT_MAX_PAIRS, DEFAULT_THRESHOLD, DuplicateSpec
from gandt.domain.search_records import (
    DuplicateGroup,
    DuplicateKeep,
    DuplicateMember,
    DuplicateMode,
    DuplicatePair,
    DuplicateReport,
)
from gandt.wire import types

_KEEPS: dict[int, DuplicateKeep] = {
    pb.DUPLICATE_KEEP_UNSPECIFIED: "central",
    pb.DUPLICATE_KEEP_CENTRAL: "central",
    pb.DUPLICATE_KEEP_ORDER: "order",
}
_MODES: dict[int, DuplicateMode] = {
    pb.DUPLICATE_MODE_UNSPECIFIED: "groups",
    pb.DUPLICATE_MODE_GROUPS: "groups",
    pb.DUPLICATE_MODE_PAIRS: "pairs",
}


def duplicate_spec(message: pb.FindNearDuplicatesRequest) -> DuplicateSpec:
    """What to look for; unspecified is 0.95, groups, central, a million pairs, the usual field.

    Raises:
        InvalidInput: a number that is not in its enum.
    """
    if message.mode not in _MODES:
        raise InvalidInput(f"mode {message.mode} is unknown", field="mode", reason="BAD_MODE")
    if message.keep not in _KEEPS:
        raise InvalidInput(f"keep {message.keep} is unknown", field="keep", reason="BAD_MODE")
    return DuplicateSpec(
        threshold=message.threshold or DEFAULT_THRESHOLD,
        mode=_MODES[message.mode],
        keep=_KEEPS[message.keep],
        max_pairs=message.max_pairs or DEFAULT_MAX_PAIRS,
        content_field=message.content_field if message.HasField("content_field") else CONTENT_FIELD,
        exact=message.exact,
    )


def duplicates_request(name: str, spec: DuplicateSpec, condition: Filter | None) -> pb.FindNearDuplicatesRequest:
    """A near-duplicate search."""
    return pb.FindNearDuplicatesRequest(
        collection=name,
        threshold=spec.threshold,
        mode=pb.DUPLICATE_MODE_PAIRS if spec.mode == "pairs" else pb.DUPLICATE_MODE_GROUPS,
        keep=pb.DUPLICATE_KEEP_ORDER if spec.keep == "order" else pb.DUPLICATE_KEEP_CENTRAL,
        max_pairs=spec.max_pairs,
        content_field=spec.content_field,
        exact=spec.exact,
        filter=types.filter_message(condition),
    )


def duplicate_report_messages(report: DuplicateReport) -> Iterator[pb.FindNearDuplicatesResponse]:
    """One report as messages of at most 1 MiB (a single group may be larger)."""
    progress = types.progress_message(report.progress)
    found: list[pb.DuplicatePair | pb.DuplicateGroup] = [
        pb.DuplicatePair(first_id=pair.first_id, second_id=pair.second_id, score=pair.score) for pair in report.pairs
    ]
    found += [
        pb.DuplicateGroup(
            representative_id=group.representative_id,
            members=[
                pb.DuplicateMember(image_id=member.image_id, similarity=member.similarity) for member in group.members
            ],
        )
        for group in report.groups
    ]
    sizes = [message.ByteSize() + 4 for message in found]
    for start, stop in types.chunk_bounds([""] * len(found), sizes) if found else [(0, 0)]:
        part = found[start:stop]
        yield pb.FindNearDuplicatesResponse(
            progress=progress,
            pairs=[message for message in part if isinstance(message, pb.DuplicatePair)],
            groups=[message for message in part if isinstance(message, pb.DuplicateGroup)],
            exact=report.exact,
            truncated=report.truncated and stop == len(found),
        )


def duplicate_report(message: pb.FindNearDuplicatesResponse) -> DuplicateReport:
    """One report."""
    return DuplicateReport(
        types.progress(message.progress),
        tuple(DuplicatePair(pair.first_id, pair.second_id, pair.score) for pair in message.pairs),
        tuple(
            DuplicateGroup(
                group.representative_id,
                tuple(DuplicateMember(member.image_id, member.similarity) for member in group.members),
            )
            for group in message.groups
        ),
        message.exact,
        message.truncated,
    )
