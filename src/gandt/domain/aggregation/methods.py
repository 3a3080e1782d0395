# SPDX-License-Identifier: GPL-3.0-or-later
"""The methods by name, and `auto`, which chooses one and says why."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

import numpy as np

from gandt.domain.aggregation.blend import fit_blend, typical_votes
from gandt.domain.aggregation.committee import fit_committee
from gandt.domain.aggregation.dawid_skene import fit_dawid_skene
from gandt.domain.aggregation.hierarchical import fit_hierarchical
from gandt.domain.aggregation.mace import fit_mace
from gandt.domain.aggregation.majority import fit_majority
from gandt.domain.aggregation.model import SingleMethod
from gandt.domain.aggregation.one_coin import fit_one_coin
from gandt.domain.aggregation.records import AUTO, MethodInfo
from gandt.domain.aggregation.subtypes import fit_subtypes
from gandt.domain.aggregation.two_coin import fit_two_coin
from gandt.domain.aggregation.votes import NO_GOLD, SetVotes, Votes
from gandt.domain.aggregation.wawa import fit_wawa
from gandt.domain.errors import InvalidInput

# Votes times classes above which `auto` takes `blend`: two models instead of four, and it goes on from a state.
MOST_WORK = 2_000_000


@dataclass(frozen=True, slots=True)
class Method:
    """A method.

    Attributes:
        fit: for one label an image; None when it is for several only. `agreement` shares majority's.
        fit_label: for one yes-no question of several.
        by_share: posteriors are shares of votes, so certainty counts agreeing votes.
        filters: leaves the votes of unreliable workers out.
    """

    info: MethodInfo
    fit: SingleMethod | None
    fit_label: SingleMethod
    by_share: bool = False
    filters: bool = False

    @property
    def resumes(self) -> bool:
        """Whether a fit may go on from an earlier one.

        Free confusion matrices settle elsewhere then: after three batches of 1 % Dawid-Skene had 5 % of posteriors more
        than 1e-2 away, and kinds of images 2 %. Shares of votes have nothing to resume.
        """
        return self.fit in (None, fit_one_coin, fit_hierarchical, fit_blend)


def _method(
    name: str,
    purpose: str,
    source: str,
    fit: SingleMethod | None,
    fit_label: SingleMethod,
    by_share: bool = False,
    filters: bool = False,
) -> Method:
    return Method(MethodInfo(name, purpose, True, source, fit is None), fit, fit_label, by_share, filters)


METHODS: dict[str, Method] = {
    method.info.name: method
    for method in (
        _method(
            "agreement",
            "The original's rule without its defects: shares of votes, unreliable workers left out.",
            "G&T's original; docs/reference/compat-aggregation.md",
            fit_majority,
            fit_majority,
            by_share=True,
            filters=True,
        ),
        _method(
            "blend",
            "One-coin and hierarchical together, by answers a worker; for several labels it is two-coin.",
            "C. Genest and J. Zidek 1986",
            fit_blend,
            fit_two_coin,
        ),
        _method(
            "committee",
            "One-coin, MACE, hierarchical and subtypes together; for several labels it is two-coin.",
            "M. Stone 1961",
            fit_committee,
            fit_two_coin,
        ),
        _method(
            "dawid-skene",
            "A free confusion matrix a worker; needs dozens of answers from each.",
            "A. P. Dawid and A. M. Skene 1979",
            fit_dawid_skene,
            fit_dawid_skene,
        ),
        _method(
            "hierarchical",
            "Confusion matrices that lean on the whole crowd's; for several labels it is two-coin.",
            "A. P. Dawid and A. M. Skene 1979, with priors pooled over workers",
            fit_hierarchical,
            fit_two_coin,
        ),
        _method(
            "mace",
            "How often a worker looks, and what he answers when he does not; for many classes.",
            "D. Hovy et al. 2013, with priors pooled over workers",
            fit_mace,
            fit_mace,
        ),
        _method(
            "majority", "The share of votes; all workers count alike.", "plurality", fit_majority, fit_majority, True
        ),
        _method(
            "one-coin",
            "One accuracy a worker, leaning on the crowd's; for many classes or few answers a worker.",
            "Y. Zhang et al. 2014",
            fit_one_coin,
            fit_one_coin,
        ),
        _method(
            "subtypes",
            "Confusion matrices by kinds of images, for images that mislead many; for several labels it is two-coin.",
            "Y. Li et al. 2019, with priors pooled over workers",
            fit_subtypes,
            fit_two_coin,
        ),
        _method(
            "two-coin",
            "Several labels an image: a hit rate and a correct-rejection rate a worker and label.",
            "V. C. Raykar et al. 2010",
            None,
            fit_two_coin,
        ),
        _method(
            "wawa",
            "Votes weighted by the worker's agreement with the majority.",
            "Appen; crowd-kit",
            fit_wawa,
            fit_wawa,
        ),
    )
}

AUTO_INFO = MethodInfo(AUTO, "Chooses by kind and number of answers and classes, and says why.", True, "this program")


def list_methods() -> list[MethodInfo]:
    """All methods by name, `auto` among them."""
    return sorted([AUTO_INFO, *(method.info for method in METHODS.values())], key=lambda info: info.name)


def find(name: str, multi_label: bool) -> Method:
    """The method of that name.

    Raises:
        InvalidInput: no such method, or one for several labels where images carry one.
    """
    method = METHODS.get(name)
    if method is None:
        near = difflib.get_close_matches(name, [*METHODS, AUTO], 1, 0.4)
        raise InvalidInput(
            f"there is no aggregation method {name!r}",
            field="method",
            reason="UNKNOWN_METHOD",
            fix=f"did you mean {near[0]}?" if near else f"use one of {', '.join([AUTO, *METHODS])}",
        )
    if method.fit is None and not multi_label:
        raise InvalidInput(
            f"method {name} is for several labels an image",
            field="method",
            reason="METHOD_NEEDS_MULTI_LABEL",
            fix="use hierarchical, or allow several labels with --multilabel",
        )
    return method


def choose(votes: Votes | SetVotes) -> tuple[str, str]:
    """(method, why) for `auto`."""
    sizes = votes.sizes()
    measured = votes.has_gold if isinstance(votes, SetVotes) else votes.gold != NO_GOLD
    if not len(sizes) or (sizes.max() < 2 and not measured.any()):
        return "majority", "no image has two answers or a known label, so nothing can be learned about workers"
    if isinstance(votes, SetVotes):
        return "two-coin", "images carry several labels: each label gets a hit and a correct-rejection rate a worker"
    typical = typical_votes(np.bincount(votes.worker, minlength=votes.workers))
    told = f"{votes.classes} classes with {typical:g} answers from a typical worker"
    if len(votes.item) * votes.classes > MOST_WORK:
        return "blend", f"{told}: one accuracy and a confusion matrix a worker, weighed by answers"
    return "committee", f"{told}: four models of workers, weighed by answers"
