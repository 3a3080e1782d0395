# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as one HTML file: inline SVG, no script, nothing fetched, prints well."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from gandt.domain.aggregation.calibration import FEWEST_FOR_ERROR
from gandt.domain.datasets import join_labels
from gandt.domain.report.figures import RECALL_GOAL, CampaignRecord, Figures, LabeledPick
from gandt.domain.report.svg import bar_chart, line_chart
from gandt.domain.selection.proof import floor_percent

HARDEST = 24

_STYLE = """
:root{color-scheme:light}
body{margin:0;background:#f8fafc;color:#1f2937;font:16px/1.55 system-ui,sans-serif}
main{max-width:60rem;margin:0 auto;padding:2rem 1.25rem 4rem}
h1{font-size:1.7rem;margin:0 0 .25rem}
h2{font-size:1.15rem;margin:0 0 .75rem}
section{background:#fff;border:1px solid #e5e7eb;border-radius:.75rem;
  padding:1.25rem 1.5rem;margin:1.25rem 0;break-inside:avoid}
.verdict{font-size:1.15rem;border-left:.3rem solid #0f62fe}
p{margin:.4rem 0}
small,.muted{color:#6b7280}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.75rem}
.card{border:1px solid #e5e7eb;border-radius:.5rem;padding:.6rem .8rem}
.card b{display:block;font-size:1.45rem;font-variant-numeric:tabular-nums}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
td,th{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #e5e7eb}
td.n,th.n{text-align:right}
svg{width:100%;height:auto}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(8rem,1fr));gap:.75rem}
figure{margin:0}
figure img{width:100%;aspect-ratio:1;object-fit:contain;background:#f1f5f9;border-radius:.4rem;image-rendering:auto}
figcaption{font-size:.85rem;overflow-wrap:anywhere}
code{background:#f1f5f9;padding:.1rem .3rem;border-radius:.25rem}
@media print{body{background:#fff}section{border-color:#ccc}}
"""


def usd(micros: int) -> str:
    """Money with cents; four digits where cents do not suffice."""
    return f"${micros / 1e6:,.{2 if micros % 10_000 == 0 else 4}f}"


def percent(share: float | None) -> str:
    """`12.3 %`, or `-` when unknown."""
    return "-" if share is None or math.isnan(share) else f"{100 * share:.1f} %"


def verdict(figures: Figures) -> str:
    """The report's first sentence, and the line that a command prints at its end."""
    share = figures.labels_bought / figures.pool if figures.pool else 0.0
    per_label = figures.answers_bought / figures.labels_bought if figures.labels_bought else 0.0
    text = (
        f"{figures.labels_bought:,} of {figures.pool:,} images were labeled by people ({percent(share)}), "
        f"{per_label:.1f} answers each, for {usd(figures.cost_usd_micros)}"
    )
    if figures.targets_in_pool is not None and figures.targets_right is not None:
        text += f"; {figures.targets_right:,} of {figures.targets_in_pool:,} wanted images were found"
        wrong = figures.targets_found - figures.targets_right
        text += f" (and {wrong:,} others taken for such)" if wrong else ""
    else:
        text += f"; {figures.targets_found:,} wanted images were found"
    if figures.label_accuracy is not None:
        text += f"; {percent(figures.label_accuracy)} of the labels are right"
    return text + "."


def report_html(
    record: CampaignRecord,
    figures: Figures,
    guarantee: str,
    extra_charts: Mapping[str, str] | None = None,
    thumbnails: Mapping[str, str] | None = None,
) -> str:
    """The whole page.

    Args:
        guarantee: what the control draws prove, in words.
        extra_charts: further SVG charts by title.
        thumbnails: data URI by image id; images without one are shown by name.
    """
    sections = [
        f'<section class="verdict"><p>{escape(verdict(figures))}</p>'
        f'<p class="muted">Campaign {escape(figures.name)} is {escape(figures.state)}. {escape(figures.message)}</p>'
        "</section>",
        _cards(figures),
        _curve(figures),
        _proven(record, guarantee),
        _rounds(record),
        _cost(record, figures),
        _classes(figures),
        _workers(record),
        _calibration(figures),
        *(f"<section><h2>{escape(title)}</h2>{svg}</section>" for title, svg in (extra_charts or {}).items()),
        _hardest(record.picks, thumbnails or {}),
        _times(figures),
        _reproduce(record),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Report: {escape(figures.name)}</title><style>{_STYLE}</style></head><body><main>"
        f'<h1>More training data from fewer labels</h1><p class="muted">Report of campaign {escape(figures.name)}</p>'
        + "".join(sections)
        + "</main></body></html>\n"
    )


def _cards(figures: Figures) -> str:
    cards = [
        ("labels bought", f"{figures.labels_bought:,}"),
        ("answers bought", f"{figures.answers_bought:,}"),
        ("cost", usd(figures.cost_usd_micros)),
        ("wanted images found", f"{figures.targets_found:,}"),
        ("certain labels", f"{figures.certain:,}"),
    ]
    if figures.label_accuracy is not None:
        cards.append(("labels that are right", percent(figures.label_accuracy)))
    if figures.random is not None and figures.random.ratio is not None:
        cards.append(("fewer labels than random", f"{figures.random.ratio:.1f} ×"))
    inner = "".join(f'<div class="card"><b>{escape(value)}</b>{escape(name)}</div>' for name, value in cards)
    return f'<section><div class="cards">{inner}</div></section>'


def _curve(figures: Figures) -> str:
    series: dict[str, Sequence[tuple[float, float]]] = {"this campaign": figures.curve}
    note = ""
    if figures.random is not None and figures.targets_in_pool:
        rate = figures.targets_in_pool / figures.pool
        series["random choice, expected"] = [(0, 0), (figures.labels_bought, rate * figures.labels_bought)]
        note = (
            f"Random choice would need {figures.random.expected_labels:,.0f} labels on average to find "
            f"{RECALL_GOAL:.0%} of the wanted images"
            + (f"; this campaign needed {figures.labels_to_goal:,}." if figures.labels_to_goal else ".")
        )
    elif figures.random_yield is not None:
        series["random choice, by the control draws"] = [
            (0, 0),
            (figures.labels_bought, figures.random_yield * figures.labels_bought),
        ]
        note = f"Control draws: {figures.control_targets} of {figures.control_labels} are wanted images."
    gain = _gain(figures)
    note = f"{note} {gain}" if gain else note
    chart = line_chart(series, "labels bought", "wanted images found", tuple(list(series)[1:]))
    return f"<section><h2>Label efficiency</h2>{chart}<p>{escape(note)}</p></section>"


def _gain(figures: Figures) -> str:
    """The ranking against the control draws made beside it, with the interval; or that they do not tell them apart."""
    proof = figures.proof or {}
    gain, low, high = proof.get("gain"), proof.get("gain_low"), proof.get("gain_high")
    if low is None:
        return ""
    upper = "no upper end" if high is None else f"{high:.1f}"
    size = f"{gain:.1f} times" if gain is not None else f"at least {low:.1f} times"
    text = f"A selected image is {size} as often a wanted one as a control image (95 % interval {low:.1f} to {upper})"
    return f"{text}." if low > 1 else f"{text}: no gain over random choice is shown."


def _proven(record: CampaignRecord, guarantee: str) -> str:
    """The guarantee: the claim, what was asked for, and what it rests on."""
    proof = record.proof
    if proof is None or not proof.control:
        return f"<section><h2>What is proven</h2><p>{escape(guarantee)}</p></section>"
    reached = proof.recall >= record.prove_recall
    asked = f"{percent(record.prove_recall)}: {'proven' if reached else 'not proven'}" if record.prove_recall else "no"
    rows = [
        ["recall that was to be proven", asked],
        ["lower bound of the recall of consensus labels", floor_percent(proof.recall)],
        ["confidence, over all looks together", percent(proof.confidence)],
        ["wanted images known, and most that there can be", f"{proof.found:,} of {proof.most_targets:,}"],
        ["control draws, and wanted images among them", f"{proof.control:,}, {proof.control_targets:,}"],
        [
            "images that this is about",
            f"{proof.pool:,} in {proof.strata} strata" if proof.strata > 1 else f"{proof.pool:,}",
        ],
        ["picks without a label, counted as missed", f"{proof.unresolved:,}"],
    ]
    if proof.total is not None and proof.standard_error is not None:
        rows.append(
            ["wanted images in all, estimated", f"{proof.total:,.0f} (standard error {proof.standard_error:,.0f})"]
        )
    if proof.true_recall is not None:
        seen = f"{proof.sensitivity.recognized} of {proof.sensitivity.asked}"
        rows.append(
            [
                f"lower bound of the true recall, as workers recognized {seen} gold images",
                floor_percent(proof.true_recall),
            ]
        )
    table = _table(("what", "value"), rows, ())
    return f'<section class="verdict"><h2>What is proven</h2><p>{escape(guarantee)}</p>{table}</section>'


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int]) -> str:
    def cell(tag: str, index: int, text: str) -> str:
        return f'<{tag} class="n">{escape(text)}</{tag}>' if index in numbers else f"<{tag}>{escape(text)}</{tag}>"

    head = "".join(cell("th", i, c) for i, c in enumerate(columns))
    body = "".join("<tr>" + "".join(cell("td", i, c) for i, c in enumerate(row)) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _rounds(record: CampaignRecord) -> str:
    targets = set(record.target_labels)
    found = {r.number: 0 for r in record.rounds}
    for pick in record.picks:
        if pick.round in found:
            found[pick.round] += bool(targets.intersection(pick.labels))
    rows = [
        [
            str(r.number),
            r.strategy,
            f"{r.images:,}",
            f"{found[r.number]:,}",
            f"{r.answers:,}",
            usd(r.cost_usd_micros),
            "as before" if before is not None and before.explanation == r.explanation else r.explanation,
        ]
        for before, r in zip([None, *record.rounds], record.rounds, strict=False)
    ]
    columns = ("round", "strategy", "images", "wanted", "answers", "cost", "why")
    return f"<section><h2>Rounds</h2>{_table(columns, rows, (0, 2, 3, 4, 5))}</section>"


def _cost(record: CampaignRecord, figures: Figures) -> str:
    spent, budget, fixed = map(usd, (figures.cost_usd_micros, record.budget_usd_micros, figures.fixed_cost_usd_micros))
    everything = f"Asking {record.workers_per_image} workers about every image of the pool would have cost {fixed}."
    return f"<section><h2>Cost</h2><p>Spent {spent} of a budget of {budget}. {everything}</p></section>"


def _classes(figures: Figures) -> str:
    counts = dict(sorted(figures.class_counts.items(), key=lambda item: (-item[1], item[0])))
    return f"<section><h2>Classes</h2>{bar_chart(counts) if counts else '<p>No labels yet.</p>'}</section>"


def _workers(record: CampaignRecord) -> str:
    def share(value: float) -> str:
        return "-" if value < 0 or math.isnan(value) else percent(value)

    rows = [
        [
            w.worker_id,
            f"{w.answers:,}",
            share(w.reliability),
            f"{share(w.low)} to {share(w.high)}",
            share(w.gold_accuracy),
            w.verdict,
        ]
        for w in sorted(record.workers, key=lambda w: (-w.answers, w.worker_id))
    ]
    columns = ("worker", "answers", "agreement with the others", "95 % interval", "gold", "verdict")
    return f"<section><h2>Workers</h2>{_table(columns, rows, (1, 2, 3, 4))}</section>"


def _calibration(figures: Figures) -> str:
    found = figures.calibration
    if found is None:
        return ""
    rows = [
        ["labels of workers whose truth is known", f"{found.images:,}"],
        ["Brier score, 0 to 2, smaller is better", f"{found.brier:.4f}"],
        ["log loss, smaller is better", f"{found.log_loss:.4f}"],
    ]
    if found.error is not None:
        rows.append(["calibration error, 0 to 1, smaller is better", f"{found.error:.4f}"])
    why = (
        "A label counts as one question: is it right? These images were selected, not drawn at random, so the figures "
        f"hold for them alone. The calibration error needs {FEWEST_FOR_ERROR:,} labels."
    )
    table = _table(("what", "value"), rows, (1,))
    return f"<section><h2>How honest confidence is</h2>{table}<p>{escape(why)}</p></section>"


def _hardest(picks: Sequence[LabeledPick], thumbnails: Mapping[str, str]) -> str:
    hard = sorted((p for p in picks if p.answers), key=lambda p: (p.confidence, p.image_id))[:HARDEST]

    def tile(pick: LabeledPick) -> str:
        name = pick.path.rsplit("/", 1)[-1]
        picture = f'<img alt="{escape(name)}" src="{thumbnails[pick.image_id]}">' if pick.image_id in thumbnails else ""
        label = join_labels(pick.labels) or "no label"
        return (
            f"<figure>{picture}<figcaption>{escape(label)} <small>{pick.agreeing} of {pick.answers}, "
            f"{percent(pick.confidence)}</small><br><small>{escape(name)}</small></figcaption></figure>"
        )

    return (
        f'<section><h2>Hardest images</h2><div class="tiles">{"".join(map(tile, hard))}</div></section>' if hard else ""
    )


def _times(figures: Figures) -> str:
    if not figures.stage_seconds:
        return ""
    return (
        f"<section><h2>Time</h2>{bar_chart({k: round(v, 1) for k, v in figures.stage_seconds.items()}, ' s')}</section>"
    )


def _reproduce(record: CampaignRecord) -> str:
    rows = [[name, value] for name, value in record.versions.items()]
    return f"<section><h2>How to reproduce</h2>{_table(('what', 'value'), rows, ())}</section>"
