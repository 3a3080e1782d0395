# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole loop as one command: what `gandt run` and `gandt demo` do."""

from __future__ import annotations

import threading
import time
import webbrowser
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from gandt.cli import exit_codes, steps
from gandt.cli.context import Context
from gandt.cli.output import usd
from gandt.cli.report_files import write_report
from gandt.cli.truth import truth_by_id
from gandt.domain.errors import GandtError, InvalidInput, NotFound, OverBudget
from gandt.domain.report.figures import RECALL_GOAL, Figures

if TYPE_CHECKING:
    from gandt.client.jobcontroller import JobControllerClient
    from gandt.domain.labeling.campaigns import Campaign, CampaignSpec
    from gandt.domain.labeling.rounds import Round
    from gandt.domain.labeling.simulated_worker import SimWorker


@dataclass(frozen=True, slots=True)
class Loop:
    """What to run.

    Attributes:
        sources: folders or s3:// URIs of images.
        seed_labels, truth: tables image,label; "" for none. With a truth simulated workers answer.
        report: HTML file to write at the end.
        known, workers: true labels by image id and the simulated workers who know them, in place of `truth` and of the
            usual crowd.
        begin_anew: whether a finished campaign with other settings may be followed by a new one.
    """

    sources: tuple[str, ...]
    spec: CampaignSpec
    seed_labels: str
    truth: str
    open_browser: bool
    report: str
    begin_anew: bool = False
    known: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    workers: tuple[SimWorker, ...] = ()


@dataclass(frozen=True, slots=True)
class LoopResult:
    """What came of it.

    Attributes:
        work_seconds: the time that people would have taken, by simulated worker; {} when people labeled.
    """

    campaign: Campaign
    figures: Figures
    sentence: str
    report: str
    exit_code: int
    work_seconds: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The summary for --json."""
        return {"campaign_id": self.campaign.campaign_id, "report": self.report, **self.figures.to_json()}

    def lines(self) -> list[str]:
        """What a user wants to know, line by line."""
        f = self.figures
        lines = [self.sentence]
        if self.campaign.message:
            lines.append(f"it is {self.campaign.state}: {self.campaign.message}")
        if self.campaign.state == "completed" and self.campaign.labeled < self.campaign.images:
            lines.append("run it again with a higher limit to go on with these labels")
        if f.random is not None and f.targets_in_pool:
            if f.labels_to_goal and f.random.ratio:
                lines.append(
                    f"{RECALL_GOAL:.0%} of the wanted images took {f.labels_to_goal:,} labels; random choice needs "
                    f"{f.random.expected_labels:,.0f} on average ({f.random.ratio:.1f} times as many)"
                )
            lines.append(
                f"random choice would have found {f.random.expected_found:.1f} of {f.targets_in_pool:,} wanted images "
                f"with the {f.labels_bought:,} labels that were bought, where this campaign found {f.targets_right:,}"
            )
        if f.main_yield is not None and f.control_yield is not None:
            lines.append(
                f"{f.main_yield:.0%} of the selected images are wanted ones, {f.control_yield:.0%} of the control draws"
            )
        lines.append(f"cost {usd(f.cost_usd_micros)}; everything with fixed overlap: {usd(f.fixed_cost_usd_micros)}")
        lines.append("time: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in f.stage_seconds.items()))
        lines.append(f"report: {self.report}")
        return lines


@dataclass
class _Clock:
    """Adds up the time of each stage."""

    seconds: dict[str, float] = field(default_factory=dict)
    _stage: str = ""
    _since: float = field(default_factory=time.monotonic)

    def enter(self, stage: str) -> None:
        """Ends the stage under way and begins another."""
        now = time.monotonic()
        if self._stage:
            self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + now - self._since
        self._stage, self._since = stage, now


def run_loop(ctx: Context, loop: Loop) -> LoopResult:
    """Runs everything to the end of the campaign, or until it waits for people; then writes the report."""
    clock = _Clock()
    ctx.hold_project()
    client = ctx.connect("jobcontroller")
    clock.enter("ingest")
    code = steps.ingest(ctx, client, loop.sources)
    clock.enter("embed and index")
    job = steps.embed(ctx, client)
    code = code or (exit_codes.PARTIAL if job.failed else exit_codes.DONE)
    clock.enter("seed")
    code = _known_labels(ctx, client, loop) or code
    campaign = _campaign(ctx, client, loop)
    truth = loop.known or _truth(client, loop)
    work_seconds: Mapping[str, float] = {}
    if loop.spec.stop.prove_recall and not campaign.state.is_final:
        _, _, coming = client.quote_round()
        if coming is not None:
            ctx.out.note(coming.sentence)
    if not campaign.state.is_final:
        campaign, work_seconds = _label(ctx, client, campaign, loop, truth, clock)
    clock.enter("report")
    clock.enter("")
    seconds = {k: v for k, v in clock.seconds.items() if k != "report"}
    figures, sentence = write_report(ctx, client, campaign.campaign_id, loop.report, truth, seconds)
    if campaign.state == "failed":
        raise GandtError(
            f"the campaign failed: {campaign.message}", reason="CAMPAIGN_FAILED", fix="mend the cause, then run again"
        )
    if campaign.state.is_final and not figures.labels_bought:
        raise _bought_nothing(campaign)
    code = code if campaign.state.is_final else exit_codes.WAITING
    return LoopResult(campaign, figures, sentence, loop.report, code, work_seconds)


def _known_labels(ctx: Context, client: JobControllerClient, loop: Loop) -> int:
    from gandt.domain.catalog import LabelKind

    multi, code = loop.spec.multi_label, exit_codes.DONE
    for path, kind in ((loop.seed_labels, LabelKind.SEED), (loop.truth, LabelKind.TRUTH)):
        if path:
            code = steps.import_labels(ctx, client, path, kind, multi, loop.spec.space.classes) or code
    return code


def _truth(client: JobControllerClient, loop: Loop) -> dict[str, tuple[str, ...]]:
    """True labels by image id; {} when people answer.

    Raises:
        InvalidInput: a truth was given and names no image, so simulated workers would know nothing.
    """
    if not loop.truth:
        return {}
    truth = truth_by_id(client, loop.truth)
    if not truth:
        raise InvalidInput(
            f"{loop.truth} names no image of the catalog",
            field="truth",
            reason="NO_TRUTH",
            fix="name images by their path below the folder",
        )
    return truth


def _bought_nothing(campaign: Campaign) -> GandtError:
    """Why a campaign ended without a label."""
    from gandt.domain.labeling.money import affordable_images

    spec = campaign.spec
    sizes = (spec.workers_per_image, spec.max_workers_per_image, spec.group_size)
    if affordable_images(1, *sizes, spec.prices, campaign.money.available) <= 0:
        return OverBudget(f"nothing was labeled: {campaign.message}", fix="raise --budget, or lower --price-per-page")
    return GandtError(f"nothing was labeled: {campaign.message}", reason="NOTHING_TO_DO")


def _campaign(ctx: Context, client: JobControllerClient, loop: Loop) -> Campaign:
    """The project's campaign: the newest one when it has the same goal, with the limits of now; else a new one.

    A campaign that has ended goes on with the labels it has when a limit is raised.

    Raises:
        GandtError: another campaign is under way, or a new one would buy labels again and nobody said --yes.
    """
    spec = loop.spec
    try:
        newest = client.get_campaign("")
    except NotFound:
        return client.create_campaign(spec)
    if newest.state == "manual":
        raise _goes_step_by_step(newest)
    if replace(newest.spec, budget_usd_micros=spec.budget_usd_micros, stop=spec.stop) == spec:
        changed = newest
        if newest.spec != spec:
            changed = client.update_campaign(
                newest.campaign_id, budget_usd_micros=spec.budget_usd_micros, stop=spec.stop
            )
        if newest.state.is_final and not changed.state.is_final:
            ctx.out.note(f"campaign {spec.name} goes on with the {newest.labeled:,} labels that it has")
        if changed.state == "failed":
            changed = client.update_campaign(newest.campaign_id, paused=False)
        if changed.state == "manual":
            raise _goes_step_by_step(changed)
        return changed
    if newest.state.is_final and newest.labeled and not loop.begin_anew:
        raise GandtError(
            f"this project has bought {newest.labeled:,} labels for {usd(newest.money.spent)} with other settings; "
            "a new campaign starts from the seed labels and buys again",
            reason="NEEDS_YES",
            fix="run it again with --yes to begin anew, or use another folder with --project",
        )
    if not newest.state.is_final:
        raise GandtError(
            f"campaign {newest.spec.name} is {newest.state} with other settings",
            reason="CAMPAIGN_UNDER_WAY",
            fix="run it with the settings that it began with, or end it with gandt cancel",
        )
    return client.create_campaign(spec)


def _goes_step_by_step(campaign: Campaign) -> GandtError:
    return GandtError(
        f"campaign {campaign.spec.name} goes step by step",
        reason="CAMPAIGN_UNDER_WAY",
        fix="go on with gandt select, launch, collect and aggregate, or end it with gandt cancel",
    )


def _label(
    ctx: Context,
    client: JobControllerClient,
    campaign: Campaign,
    loop: Loop,
    truth: Mapping[str, tuple[str, ...]],
    clock: _Clock,
) -> tuple[Campaign, Mapping[str, float]]:
    """Follows the campaign while workers answer; simulated ones when the truth is known. Gives their time as well."""
    ended = threading.Event()
    workers = None
    if truth:
        from gandt.cli.simulated import SimulatedCrowd

        workers = SimulatedCrowd(ctx, truth, ended, loop.workers)
    else:
        url = ctx.invite()[1] if ctx.labels_here() else ""
        ctx.out.note(f"label here: {url}" if url else "waiting for the people whom the backend asks")
        if url and loop.open_browser:
            webbrowser.open(url)
    shown: set[tuple[str, str]] = set()
    told: set[tuple[str, int]] = set()

    def on_change(now: Campaign, newest: Round | None) -> None:
        clock.enter(_stage(newest))
        if now.message and not now.state.is_final and ("", now.message) not in shown:
            shown.add(("", now.message))
            ctx.out.warn(now.message)
        if newest is not None and (str(newest.number), str(newest.state)) not in shown:
            shown.add((str(newest.number), str(newest.state)))
            if ("selected", newest.number) not in told:  # the watch may miss the state itself
                told.add(("selected", newest.number))
                count = newest.planned or newest.images
                ctx.out.note(f"round {newest.number}: {count} images selected by {newest.strategy}")
            if newest.state == "aggregated":
                ctx.out.note(
                    f"round {newest.number}: {newest.answers} answers, {newest.targets_found} wanted images; "
                    f"{now.labeled:,} labels, {now.targets_found:,} wanted images in all"
                )

    try:
        check = workers.check if workers is not None else lambda: None
        final = steps.follow(client, campaign.campaign_id, on_change, check)
    finally:
        ended.set()
        if workers is not None:
            workers.join()
    return final, workers.seconds if workers is not None else {}


def _stage(newest: Round | None) -> str:
    """The stage that is under way, by the state of the newest round."""
    if newest is None or newest.state.is_final:
        return "select"
    return "aggregate" if newest.state == "collected" else "label"
