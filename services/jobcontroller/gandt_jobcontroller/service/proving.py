# SPDX-License-Identifier: GPL-3.0-or-later
"""What a campaign's control draws prove so far, and what finding and proving will still take."""

from __future__ import annotations

from collections import Counter

from gandt.domain.catalog import LabelKind
from gandt.domain.datasets import AnswerState
from gandt.domain.labeling.campaigns import Campaign
from gandt.domain.selection.forecast import Forecast, forecast
from gandt.domain.selection.phases import Phase, RoundYield, next_phase
from gandt.domain.selection.proof import NO_GOLD, Proof, Sampled, Sensitivity, proof_of
from gandt_jobcontroller.service.naming import check_space, is_usable
from gandt_jobcontroller.service.parts import COLLECTION, Parts

DEFAULT_RECALL = 0.8  # what a forecast is made for while nobody asked for a proof


def prove(parts: Parts, campaign: Campaign) -> Proof | None:
    """The proof of a campaign at this look; None when it looks for nothing."""
    spec = campaign.spec
    if not spec.target_labels:
        return None
    samples = parts.store.samples(campaign.campaign_id)
    return proof_of(
        samples,
        seed_targets(parts, campaign),
        spec.stop.confidence,
        _sensitivity(parts, campaign),
        phase_of(samples) if spec.stop.prove_recall else Phase.FIND,
        parts.store.unlabeled_picks(campaign.campaign_id),
    )


def phase_of(samples: list[Sampled]) -> Phase:
    """What the next round of a campaign that is to prove something is for."""
    draws: dict[tuple[int, int], list[Sampled]] = {}
    for one in samples:
        draws.setdefault((one.round, one.part), []).append(one)
    return next_phase(
        [
            RoundYield(
                sum(s.main for s in own),
                sum(s.main_targets for s in own),
                sum(s.control for s in own),
                sum(s.control_targets for s in own),
            )
            for _, own in sorted(draws.items())
        ]
    )


def seed_targets(parts: Parts, campaign: Campaign) -> int:
    """Wanted images among the labels that were known beforehand."""
    targets, classes = set(campaign.spec.target_labels), campaign.spec.space.classes
    picked = parts.store.picked_images(
        campaign.campaign_id, from_pool=True
    )  # an image that was labeled first is counted as such
    seeds = (seed for seed in parts.store.known_labels(LabelKind.SEED) if seed.image_id not in picked)
    return sum(not targets.isdisjoint(s.labels) and check_space(s.labels, classes) is None for s in seeds)


def forecast_of(parts: Parts, campaign: Campaign) -> Forecast | None:
    """Labels that finding and proving will still take; None when the campaign looks for nothing."""
    proof = prove(parts, campaign)
    if proof is None:
        return None
    spec, collection = campaign.spec, parts.store.fact(COLLECTION)
    pool = max(0, campaign.images - campaign.labeled - len(parts.store.known_labels(LabelKind.SEED)))
    if collection:
        pool = max(0, pool - parts.store.count_unembedded(collection))
    return forecast(
        pool,
        proof.found,
        proof.total if proof.control_targets else None,
        spec.stop.prove_recall or DEFAULT_RECALL,
        spec.stop.confidence,
        spec.control_fraction,
        proof.phase is Phase.PROVE,
        proof.draws,
    )


def _sensitivity(parts: Parts, campaign: Campaign) -> Sensitivity:
    """Wanted gold images that most of their workers called wanted."""
    spec = campaign.spec
    targets = set(spec.target_labels)
    known = parts.store.known_labels(LabelKind.GOLD)
    gold = {g.image_id for g in known if is_usable(g, spec.space) and not targets.isdisjoint(g.labels)}
    if not gold:
        return NO_GOLD
    votes: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    for answer in parts.store.all_answers(campaign.campaign_id):
        if answer.image_id in gold and answer.state is AnswerState.ANSWERED:
            votes[answer.image_id] += 1
            hits[answer.image_id] += not targets.isdisjoint(answer.labels)
    return Sensitivity(sum(2 * hits[image] > count for image, count in votes.items()), len(votes))
