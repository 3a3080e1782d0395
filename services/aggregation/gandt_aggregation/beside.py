# SPDX-License-Identifier: GPL-3.0-or-later
"""What comes with a call beside its answers: gold, an audit's judgments, an image model, a state."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from gandt.domain.aggregation.answer_table import Limits
from gandt.domain.aggregation.model_worker import NO_VOTE, model_votes
from gandt.domain.aggregation.records import AuditChunk, GoldChunk, Message, ModelChunk, StatePart
from gandt.domain.aggregation.state import MAX_STATE_BYTES
from gandt.domain.errors import InvalidInput

Gold = dict[str, tuple[str, ...]]


@dataclass(slots=True)
class BesideReader:
    """Takes in what comes beside the answers.

    Args:
        limits: most that may come in.
    Attributes:
        gold, drawn, judged: as in `Beside`.
        model: an image model's votes, as class names by image; `model_classes` those of its first chunk.
        state: its parts, and `state_bytes` their size.
    """

    limits: Limits
    gold: Gold = field(default_factory=dict)
    drawn: set[str] = field(default_factory=set)
    judged: Gold = field(default_factory=dict)
    model: dict[str, str] = field(default_factory=dict)
    model_classes: tuple[str, ...] | None = None
    state: list[bytes] = field(default_factory=list)
    state_bytes: int = 0

    def take(self, message: Message) -> None:
        """One message that holds no answers."""
        if isinstance(message, GoldChunk):
            self._add_known(self.gold, message.gold, "gold")
            if message.drawn_at_random:
                self.drawn.update(image for image, _ in message.gold)
        elif isinstance(message, AuditChunk):
            self._add_known(self.judged, message.judged, "judged")
        elif isinstance(message, ModelChunk):
            self._take_model(message)
        elif isinstance(message, StatePart):
            self.state.append(message.data)
            self.state_bytes += len(message.data)
            if self.state_bytes > MAX_STATE_BYTES:
                raise InvalidInput(
                    f"the state is larger than {MAX_STATE_BYTES:,} bytes",
                    field="state",
                    reason="TOO_MUCH_DATA",
                    fix="send all answers without a state, and ask for none",
                )
        else:
            raise InvalidInput(
                "a second spec came; the first message and only that is a spec",
                field="spec",
                fix="open another stream for another spec",
            )

    def _take_model(self, chunk: ModelChunk) -> None:
        if self.model_classes not in (None, chunk.classes):
            raise InvalidInput(
                "the image model's chunks name different classes",
                field="model.classes",
                reason="BAD_PROBABILITY",
                fix="name the same classes in the same order in each chunk",
            )
        self.model_classes = chunk.classes
        for image, vote in zip(chunk.images, model_votes(chunk.probability, chunk.images).tolist(), strict=True):
            if vote == NO_VOTE:
                continue
            label = chunk.classes[vote]
            if self.model.setdefault(image, label) != label:
                raise InvalidInput(
                    f"the image model says {self.model[image]!r} and {label!r} of image {image}",
                    field="model",
                    reason="CONFLICTING_LABELS",
                    fix="give each image one row of probabilities",
                )
        self._check_size(len(self.model), "the image model's votes")

    def _add_known(self, known: Gold, more: Iterable[tuple[str, tuple[str, ...]]], kind: str) -> None:
        for image, labels in more:
            if image in known and set(known[image]) != set(labels):
                raise InvalidInput(
                    f"{kind} image {image} has two different labels",
                    field=kind,
                    reason="CONFLICTING_LABELS",
                    fix="keep the right one",
                )
            known[image] = labels
        self._check_size(len(known), f"{kind} labels")

    def _check_size(self, images: int, what: str) -> None:
        if images > self.limits.images:
            raise InvalidInput(
                f"{what} are of more than {self.limits.images:,} images",
                field="images",
                reason="TOO_MUCH_DATA",
                fix="leave out images that nobody answered, or raise the aggregation service's max_images",
            )
