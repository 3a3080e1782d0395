# SPDX-License-Identifier: GPL-3.0-or-later
"""The step that picks the images of the next round."""

from __future__ import annotations

from collections.abc import Iterator

from gandt.domain.catalog import LabelKind
from gandt.domain.datasets import LabeledImage, LabelStatus
from gandt.domain.errors import NotFound, WrongState
from gandt.domain.labeling.campaigns import Campaign
from gandt.domain.labeling.rounds import PageGroup, Pick, Round, RoundState
from gandt.domain.search_records import Collection
from gandt_jobcontroller.service.admission import unused
from gandt_jobcontroller.service.naming import check_space, is_usable
from gandt_jobcontroller.service.parts import Parts
from gandt_jobcontroller.service.peers import SelectionAnswer, SelectionQuestion

PAGE = 5_000
COLLECTION = "collection"  # the fact that names the collection in use; an embedding job that has finished sets it
SEED = "seed"  # the source of a label that was known beforehand


def select_round(
    parts: Parts, campaign: Campaign, count: int, strategy: str = "", request_id: str = ""
) -> Round | None:
    """Pick images and store them as the next round; None when nothing is left to pick.

    Raises:
        WrongState: no image is embedded, or the round before is not final.
    """
    collection = parts.store.fact(COLLECTION)
    if not collection:
        raise WrongState(
            f"campaign {campaign.spec.name} cannot select: no image is embedded",
            kind="campaign",
            id=campaign.campaign_id,
            state=campaign.state.value,
            reason="NOT_EMBEDDED",
            fix="embed the images first",
        )
    before = parts.store.newest_round(campaign.campaign_id)
    number = before.number + 1 if before else 1
    question = _question(parts, campaign, collection, number, count, strategy or campaign.spec.strategy)
    answer = parts.peers.selector.select(question)
    picks, warnings = _known_picks(parts, answer)
    if before is None:
        left = unused(parts.store.known_labels(LabelKind.SEED), campaign.spec.space, LabelKind.SEED)
        warnings = (*warnings, left) if left else warnings
    parts.checkpoint("selected")
    if not picks:
        return None
    new = Round(
        round_id=parts.new_id("r"),
        campaign_id=campaign.campaign_id,
        number=number,
        state=RoundState.SELECTED,
        created_at=parts.clock.now(),
        strategy=answer.strategy,
        explanation=answer.explanation,
        warnings=warnings,
        pending=(PageGroup(tuple(pick.image_id for pick in picks), campaign.spec.workers_per_image),),
    )
    return parts.store.create_round(new, picks, request_id)


def _question(
    parts: Parts, campaign: Campaign, collection: str, number: int, count: int, strategy: str
) -> SelectionQuestion:
    spec = campaign.spec
    described = _described(parts, collection)
    labeled = list(_labeled(parts, campaign))
    known = {image.image_id for image in labeled}
    gold = {g.image_id for g in parts.store.known_labels(LabelKind.GOLD) if is_usable(g, spec.space)}
    picked = parts.store.picked_images(campaign.campaign_id)
    targets = set(spec.target_labels)
    return SelectionQuestion(
        collection=collection,
        model_id=described.model_id,
        strategy=strategy,
        target_labels=spec.target_labels,
        other_label=spec.other_label,
        count=count,
        control_fraction=spec.control_fraction,
        seed=spec.seed,
        round=number,
        labeled=labeled,
        excluded=sorted((picked | gold) - known),
        groups=_near_groups(parts, described),
        found_before=sum(not targets.isdisjoint(image.labels) for image in labeled),
    )


def _labeled(parts: Parts, campaign: Campaign) -> Iterator[LabeledImage]:
    """Seeds and what people said so far; a tie is no label, and none of the labels is the "other" one.

    A seed of other classes is left out: for this campaign its image is not labeled.
    """
    none_of_these = (campaign.spec.other_label,) if campaign.spec.other_label else ()
    after = ""
    while page := parts.store.list_labels(campaign.campaign_id, "", True, after, PAGE):
        for label in page:
            labels = label.labels or none_of_these
            if label.source == SEED and check_space(labels, campaign.spec.space.classes) is not None:
                continue
            if label.status in (LabelStatus.CERTAIN, LabelStatus.UNCERTAIN) and labels and label.confidence > 0:
                yield LabeledImage(
                    label.image_id,
                    labels,
                    min(1.0, label.confidence),
                    label.arm,
                    label.round,
                    label.inclusion_probability,
                )
        after = page[-1].image_id


def _described(parts: Parts, collection: str) -> Collection:
    try:
        return parts.peers.vectors.describe(collection)
    except NotFound as error:
        raise WrongState(
            f"collection {collection} is gone from the vector search service",
            kind="collection",
            id=collection,
            reason="NOT_EMBEDDED",
            fix="embed the images again",
        ) from error


def _near_groups(parts: Parts, collection: Collection) -> dict[str, str]:
    """Near-duplicate groups, looked up once for each state of the collection."""
    groups = parts.store.near_groups(collection.name, collection.generation)
    if groups is None:
        groups = parts.peers.vectors.near_groups(collection.name)
        parts.store.set_near_groups(collection.name, collection.generation, groups)
    return groups


def _known_picks(parts: Parts, answer: SelectionAnswer) -> tuple[list[Pick], tuple[str, ...]]:
    """Picks that the catalog has; a collection may hold vectors of images that it does not."""
    known = parts.store.known_images([pick.image_id for pick in answer.picks])
    picks = [pick for pick in answer.picks if pick.image_id in known]
    missing = len(answer.picks) - len(picks)
    if not missing:
        return picks, answer.warnings
    return picks, (*answer.warnings, f"{missing} picks are not in the catalog and were left out")
