# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks SageMaker requests as the service does: botocore's service model, and the rules that are only in the guide.

The client library checks types, required members and `min`; a bad name, ten workers or a 129-character title reach
the service unhindered, so everything is checked here.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from gandt.domain.errors import InvalidInput

Json = dict[str, Any]

TIME_LIMIT = 28_800  # seconds; custom tasks
AVAILABILITY = 2_592_000  # seconds; private and vendor teams
PUBLIC_AVAILABILITY = 43_200
PUBLIC_CROWD = "workteam/public-crowd/"
PII_FREE = "FreeOfPersonallyIdentifiableInformation"
# Prices of a public task in tenths of a US cent.
PRICES = (12, 24, 36, 48, 60, 72, 120, 240, 360, 480, 600, 720, 840, 960, 1080, 1200)

_TYPES: dict[str, tuple[type, ...]] = {
    "structure": (dict,),
    "map": (dict,),
    "list": (list,),
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "boolean": (bool,),
    "timestamp": (int, float, str),
}


def check(operation: str, request: Any) -> Json:
    """The request with its timestamps as epoch seconds.

    Raises:
        InvalidInput: `N validation errors detected: ...`, one clause an error.
    """
    shape = _model().operation_model(operation).input_shape
    errors = list(_violations(shape, request, ""))
    if not errors and operation == "CreateLabelingJob":
        errors = list(_job_rules(request))
    if not errors and "Tags" in request:
        errors = list(_tag_rules(request["Tags"]))
    if errors:
        plural = "s" if len(errors) > 1 else ""
        text = f"{len(errors)} validation error{plural} detected: {'; '.join(errors)}"
        raise InvalidInput(text, field=errors[0].partition(":")[0], reason="VALIDATION")
    times = [name for name, member in shape.members.items() if member.type_name == "timestamp"]
    return {name: _epoch(value) if name in times else value for name, value in request.items()}


@functools.cache
def _model() -> Any:
    import botocore.session

    return botocore.session.get_session().get_service_model("sagemaker")


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str] | None:
    pattern = pattern.replace(r"\p{L}\p{Z}\p{N}", r"\w\s")  # Python's re has no \p
    return re.compile(pattern) if r"\p{" not in pattern else None


def _violations(shape: Any, value: Any, path: str) -> Iterator[str]:
    kind, meta = shape.type_name, shape.metadata
    wanted = _TYPES.get(kind)
    if wanted and (not isinstance(value, wanted) or (isinstance(value, bool) and kind != "boolean")):
        yield f"{path or 'request'}: must be of type {kind}"
        return
    if kind == "structure":
        yield from _structure_violations(shape, value, path)
        return
    size: float
    if kind == "list":
        size = len(value)
        for position, member in enumerate(value):
            yield from _violations(shape.member, member, f"{path}[{position}]")
    elif kind == "string":
        size = len(value)
        if not encodes(value):
            yield f"{path}: must be text that has a UTF-8 encoding"
        pattern = _compiled(meta["pattern"]) if "pattern" in meta else None
        if pattern and not pattern.fullmatch(value):
            yield f"{path}: must match {meta['pattern']}"
        if shape.enum and value not in shape.enum:
            yield f"{path}: must be one of {', '.join(shape.enum)}"
    elif kind in ("integer", "long"):
        size = value
    elif kind == "timestamp":
        if _epoch(value) is None:
            yield f"{path}: must be a time"
        return
    else:
        return
    unit = "" if kind in ("integer", "long") else " in length"
    if "min" in meta and size < meta["min"]:
        yield f"{path}: must be at least {meta['min']}{unit}"
    if "max" in meta and size > meta["max"]:
        yield f"{path}: must be at most {meta['max']}{unit}"


def _structure_violations(shape: Any, value: Json, path: str) -> Iterator[str]:
    prefix = f"{path}." if path else ""
    for name in shape.required_members:
        if name not in value:
            yield f"{prefix}{name}: is required"
    for name, member in value.items():
        if name in shape.members:
            yield from _violations(shape.members[name], member, f"{prefix}{name}")
        else:
            yield f"{prefix}{name}: is not known"


def _job_rules(request: Json) -> Iterator[str]:
    """The rules of CreateLabelingJob that the model does not have."""
    attribute = request["LabelAttributeName"]
    if attribute in ("source", "source-ref") or attribute.endswith(("-metadata", "-ref")):
        yield "LabelAttributeName: must not be source or source-ref, nor end in -metadata or -ref"
    source = request["InputConfig"]["DataSource"]
    if "S3DataSource" not in source:
        yield "InputConfig.DataSource.S3DataSource: is required; streaming jobs are not served here"
    elif not source["S3DataSource"]["ManifestS3Uri"].startswith("s3://"):
        yield "InputConfig.DataSource.S3DataSource.ManifestS3Uri: must start with s3://"
    if not request["OutputConfig"]["S3OutputPath"].startswith("s3://"):
        yield "OutputConfig.S3OutputPath: must start with s3://"
    if "LabelingJobAlgorithmsConfig" in request:
        yield "LabelingJobAlgorithmsConfig: automated labeling is not served here"
    human = request["HumanTaskConfig"]
    if not human["UiConfig"].get("UiTemplateS3Uri") and not human["UiConfig"].get("HumanTaskUiArn"):
        yield "HumanTaskConfig.UiConfig: needs UiTemplateS3Uri"
    if human["TaskTimeLimitInSeconds"] > TIME_LIMIT:
        yield f"HumanTaskConfig.TaskTimeLimitInSeconds: must be at most {TIME_LIMIT}"
    public = PUBLIC_CROWD in human["WorkteamArn"]
    longest = PUBLIC_AVAILABILITY if public else AVAILABILITY
    if human.get("TaskAvailabilityLifetimeInSeconds", 0) > longest:
        yield f"HumanTaskConfig.TaskAvailabilityLifetimeInSeconds: must be at most {longest}"
    yield from _public_rules(request, human) if public else _private_rules(human)


def _public_rules(request: Json, human: Json) -> Iterator[str]:
    classifiers = request["InputConfig"].get("DataAttributes", {}).get("ContentClassifiers", [])
    if PII_FREE not in classifiers:
        yield f"InputConfig.DataAttributes.ContentClassifiers: must contain {PII_FREE} for the public crowd"
    amount = human.get("PublicWorkforceTaskPrice", {}).get("AmountInUsd")
    if amount is None:
        yield "HumanTaskConfig.PublicWorkforceTaskPrice: is required for the public crowd"
    else:
        tenths = amount.get("Dollars", 0) * 1000 + amount.get("Cents", 0) * 10
        tenths += amount.get("TenthFractionsOfACent", 0)
        if tenths not in PRICES:
            listed = ", ".join(f"{price / 1000:.3f}" for price in PRICES)
            yield f"HumanTaskConfig.PublicWorkforceTaskPrice: must be one of {listed} US dollars"


def _private_rules(human: Json) -> Iterator[str]:
    if "PublicWorkforceTaskPrice" in human:
        yield "HumanTaskConfig.PublicWorkforceTaskPrice: only for the public crowd"


def _tag_rules(tags: list[Mapping[str, str]]) -> Iterator[str]:
    keys = [tag["Key"] for tag in tags]
    for key in sorted({key for key in keys if keys.count(key) > 1}):
        yield f"Tags: the key {key!r} is given twice"
    for key in keys:
        if key.lower().startswith("aws:"):
            yield f"Tags: the key {key!r} starts with aws:, which is reserved"


def encodes(text: str) -> bool:
    """Whether the text has a UTF-8 encoding: half a surrogate pair, which JSON can spell, has none."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _epoch(value: float | str) -> float | None:
    if not isinstance(value, str):
        return float(value)
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
