# SPDX-License-Identifier: GPL-3.0-or-later
"""The step that picks the images of the next round, or of the next part of one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import floor

from gandt.domain.catalog import LabelKind
from gandt.domain.datasets import LabeledImage, LabelStatus
from gandt.domain.errors import NotFound, WrongState
from gandt.domain.labeling.campaigns import Campaign
from gandt.domain.labeling.rounds import ASKED_AGAIN, Draw, PageGroup, Pick, Round, RoundState
from gandt.domain.search_records import Collection
from gandt.domain.selection.phases import Phase
from gandt_jobcontroller.service.admission import unused
from gandt_jobcontroller.service.naming import check_space, is_usable
from gandt_jobcontroller.service.parts import COLLECTION, Parts
from gandt_jobcontroller.service.peers import SelectionAnswer, SelectionQuestion

PAGE = 5_000
PROVING = "proving: every image is drawn uniformly from what is unlabeled"
SEED = "seed"  # the source of a label that was known beforehand


def select_round(
    parts: Parts,
    campaign: Campaign,
    count: int,
    strategy: str = "",
    request_id: str = "",
    phase: Phase = Phase.FIND,
) -> Round | None:
    """Pick images and store them as the next round; None when nothing is left to pick.

    A round of more than the campaign's part size begins with one part; `top_up_round` selects the others.

    Raises:
        WrongState: no image is embedded, or the round before is not final.
    """
    began, before = parts.clock.now(), parts.store.newest_round(campaign.campaign_id)
    number = before.number + 1 if before else 1
    first = min(count, campaign.spec.part_size or count)
    made = _select(parts, campaign, number, 1, first, strategy, phase)
    if before is None:
        left = unused(parts.store.known_labels(LabelKind.SEED), campaign.spec.space, LabelKind.SEED)
        made = replace(made, warnings=(*made.warnings, left) if left else made.warnings)
    parts.checkpoint("selected")
    if not made.picks:
        return None
    new = Round(
        round_id=parts.new_id("r"),
        campaign_id=campaign.campaign_id,
        number=number,
        state=RoundState.SELECTED,
        created_at=began,
        strategy=made.strategy,
        explanation=made.explanation,
        warnings=made.warnings,
        pending=(made.group,),
        planned=count if first < count and len(made.picks) == first else 0,
        draws=(made.draw,),
    )
    return parts.store.create_round(new, made.picks, request_id)


def top_up_round(parts: Parts, campaign: Campaign, current: Round, count: int) -> Round:
    """Select one more part of a round, from the answers so far; with nothing left the round stays as it is."""

    def whole(now: Round) -> Round:
        return replace(now, planned=0)

    if count <= 0:
        return parts.store.change_round(current.round_id, whole, parts.clock.now())
    part = max((draw.part for draw in current.draws), default=1) + 1
    phase = Phase.PROVE if current.explanation == PROVING else Phase.FIND
    made = _select(parts, campaign, current.number, part, count, current.strategy, phase)
    parts.checkpoint("selected")
    if not made.picks:
        return parts.store.change_round(current.round_id, whole, parts.clock.now())
    last = max((pick.rank for pick in parts.store.get_round(current.round_id, with_picks=True).picks), default=0)
    picks = [replace(pick, rank=last + pick.rank) for pick in made.picks]

    def topped_up(now: Round) -> Round:
        warnings = tuple(dict.fromkeys((*now.warnings, *made.warnings)))
        draws, pending = (*now.draws, made.draw), (*now.pending, made.group)
        return replace(now, pending=pending, draws=draws, warnings=warnings)

    return parts.store.add_picks(current.round_id, picks, topped_up, parts.clock.now())


@dataclass(frozen=True, slots=True)
class _Selected:
    """One part of a round."""

    picks: list[Pick]
    strategy: str
    explanation: str
    warnings: tuple[str, ...]
    draw: Draw
    group: PageGroup


def _select(
    parts: Parts, campaign: Campaign, number: int, part: int, count: int, strategy: str, phase: Phase
) -> _Selected:
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
    question = _question(parts, campaign, collection, number, count, strategy or campaign.spec.strategy)
    if part > 1:  # the same round, and yet randomness of its own
        question = replace(question, seed=question.seed + (part << 32))
    if phase is Phase.PROVE:
        question = replace(question, strategy="random", control_fraction=1.0)
    else:
        question = replace(question, control_fraction=_control_share(parts, campaign, count))
    answer = parts.peers.selector.select(question)
    picks, warnings = _known_picks(parts, answer)
    strata = parts.store.strata(campaign.campaign_id, [pick.image_id for pick in picks])
    labeled = {image.image_id for image in question.labeled}
    picks = [
        replace(pick, part=part, stratum=ASKED_AGAIN if pick.image_id in labeled else strata.get(pick.image_id, 1))
        for pick in picks
    ]
    later = parts.store.arrivals(campaign.campaign_id, collection, labeled.union(question.excluded))
    pool = max((pick.pool_size for pick in picks), default=0)
    pools = {1: pool - sum(later.values()), **later}
    return _Selected(
        picks,
        answer.strategy,
        PROVING if phase is Phase.PROVE else answer.explanation,
        warnings,
        Draw(part, question.found_before, tuple(sorted(pools.items()))),
        PageGroup(tuple(pick.image_id for pick in picks), campaign.spec.workers_per_image),
    )


def _control_share(parts: Parts, campaign: Campaign, count: int) -> float:
    """Share of this selection that is drawn uniformly, so that small ones, too, add up to the campaign's share of all.

    It depends on counts alone, never on what was found, so the proof may rest on the draws.
    """
    main: Counter[int] = Counter()
    control: Counter[int] = Counter()
    for sample in parts.store.samples(campaign.campaign_id):
        main[sample.round] += sample.main
        control[sample.round] += sample.control
    newest = parts.store.newest_round(campaign.campaign_id)
    if newest is not None and not newest.state.is_final:  # parts of the round itself
        main[newest.number], control[newest.number] = newest.main_images, newest.control_images
    finding = [number for number, images in main.items() if images]
    picked, drawn = sum(main[n] + control[n] for n in finding), sum(control[n] for n in finding)
    owed = floor(campaign.spec.control_fraction * (picked + count) + 0.5 + 1e-9) - drawn
    return min(max(owed, 0), count) / count


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
