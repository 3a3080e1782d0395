# SPDX-License-Identifier: GPL-3.0-or-later
"""Money of a campaign: integers in millionths of a US dollar, held at the worst case before anything is started.

A labeling job pays a fee for each labeled page and a price for each worker's submitted page. A round's first job
holds the worst case of the whole round, so that its repeats can never be refused for lack of money.
"""

from __future__ import annotations

from dataclasses import dataclass

EXPECTED_REPEAT_SHARE = (3, 10)  # of images asked again before a campaign has shown its own share


@dataclass(frozen=True, slots=True)
class Money:
    """Where a campaign's money is, in millionths of a US dollar.

    Attributes:
        budget: most that may be spent.
        reserved: held for jobs that are not settled, at their worst case.
        spent: settled.
    """

    budget: int = 0
    reserved: int = 0
    spent: int = 0

    @property
    def available(self) -> int:
        """What may still be reserved; negative never happens while the store keeps its promise."""
        return self.budget - self.reserved - self.spent


@dataclass(frozen=True, slots=True)
class Prices:
    """What one page costs: `fee` once, `price` for each worker; millionths of a US dollar."""

    fee: int = 0
    price: int = 0

    def job_cost(self, pages: int, workers: int) -> int:
        """Cost of a job in which every page is submitted by every worker."""
        return pages * (self.fee + workers * self.price)

    def actual_cost(self, labeled_pages: int, submitted_pages: int) -> int:
        """Cost of what really happened.

        Args:
            labeled_pages: lines that the backend labeled; each costs the fee.
            submitted_pages: pages that workers handed in, those of failed lines too; each costs the price.
        """
        return labeled_pages * self.fee + submitted_pages * self.price


@dataclass(frozen=True, slots=True)
class Quote:
    """What a round will take: best case, expected, worst case. Costs in millionths of a US dollar."""

    images: int
    pages: int
    min_answers: int
    expected_answers: int
    max_answers: int
    min_cost: int
    expected_cost: int
    max_cost: int


def pages_of(images: int, group_size: int) -> int:
    """Pages that hold so many images."""
    return -(-images // group_size)


def quote(
    images: int,
    workers: int,
    max_workers: int,
    group_size: int,
    prices: Prices,
    repeat_share: tuple[int, int] = EXPECTED_REPEAT_SHARE,
) -> Quote:
    """What it takes to label some images.

    Args:
        images: images to label, 0 or more.
        workers: answers each gets at first; may be 0 when only repeats are left.
        max_workers: answers each may get at most.
        group_size: images a page.
        prices: cost of a page.
        repeat_share: share of the images that are expected to need one more answer after each job, as a fraction.
    """
    pages = pages_of(images, group_size)
    first = prices.job_cost(pages, workers) if workers else 0
    expected_answers = images * workers
    expected_cost = max_cost = first
    asked = images
    for _ in range(max(0, max_workers - workers)):
        max_cost += prices.job_cost(pages, 1)
        asked = -(-asked * repeat_share[0] // repeat_share[1])
        expected_answers += asked
        expected_cost += prices.job_cost(pages_of(asked, group_size), 1)
    return Quote(
        images=images,
        pages=pages,
        min_answers=images * workers,
        expected_answers=expected_answers,
        max_answers=images * max(workers, max_workers),
        min_cost=first,
        expected_cost=expected_cost,
        max_cost=max_cost,
    )


def affordable_images(
    wanted: int, workers: int, max_workers: int, group_size: int, prices: Prices, available: int
) -> int:
    """Most images, up to `wanted`, whose worst case fits into `available`; 0 when not even one page does."""
    worst_page = quote(1, workers, max_workers, group_size, prices).max_cost
    if worst_page <= 0:
        return wanted
    return min(wanted, max(0, available // worst_page) * group_size)
