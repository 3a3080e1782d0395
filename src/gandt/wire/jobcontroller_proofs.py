# SPDX-License-Identifier: GPL-3.0-or-later
"""gandt.jobcontroller.v1 messages of proofs and forecasts to and from domain records."""

from __future__ import annotations

from typing import Any

from gandt.api.jobcontroller.v1 import jobcontroller_pb2 as pb
from gandt.domain.selection.forecast import Forecast
from gandt.domain.selection.phases import Phase
from gandt.domain.selection.proof import Proof, Sensitivity

_FORECAST = ("pool", "targets", "assumed", "recall", "confidence")
_PROOF = ("recall", "confidence", "found", "most_targets", "control_targets", "pool", "strata", "unresolved")
_OPTIONAL = ("total", "standard_error", "gain", "gain_low", "gain_high", "true_recall")


def proof_message(record: Proof) -> pb.Proof:
    """What is proven; the draws behind it stand in the rounds."""
    return pb.Proof(
        **{name: getattr(record, name) for name in (*_PROOF, *_OPTIONAL)},
        control_images=record.control,
        phase=record.phase.value,
        gold_asked=record.sensitivity.asked,
        gold_recognized=record.sensitivity.recognized,
    )


def proof(message: pb.Proof) -> Proof:
    """The inverse of `proof_message`, without draws."""
    present = {field.name for field, _ in message.ListFields()}
    known: dict[str, Any] = {name: getattr(message, name) for name in _PROOF}
    known |= {name: getattr(message, name) for name in _OPTIONAL if name in present}
    return Proof(
        **known,
        control=message.control_images,
        phase=Phase(message.phase),
        sensitivity=Sensitivity(message.gold_recognized, message.gold_asked),
    )


def forecast_message(record: Forecast) -> pb.Forecast:
    """What is still to come."""
    known = {name: getattr(record, name) for name in _FORECAST}
    return pb.Forecast(find_labels=record.find, prove_labels=record.prove, **known)


def forecast(message: pb.Forecast) -> Forecast:
    """The inverse of `forecast_message`."""
    known = {name: getattr(message, name) for name in _FORECAST}
    return Forecast(find=message.find_labels, prove=message.prove_labels, **known)
