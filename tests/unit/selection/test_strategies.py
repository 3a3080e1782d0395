# SPDX-License-Identifier: GPL-3.0-or-later
"""What every strategy keeps to, and what each of them is for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gandt.domain.datasets import Arm, LabeledImage
from gandt.domain.errors import InvalidInput
from gandt.domain.selection.pool import unit_rows
from gandt.domain.selection.records import SelectResult, SelectSpec
from gandt.domain.selection.registry import strategies
from gandt.domain.selection.selecting import Known
from gandt.domain.selection.training import merged, training_set
from tests.unit.selection.make import blobs, known_of, pick, pool_of, trained

NAMES = sorted(strategies())
SPEC = SelectSpec(target_labels=("rare",), other_label="Other", count=12, control_fraction=0.25, seed=7)


def spec(**changes: object) -> SelectSpec:
    return SelectSpec(**{**{name: getattr(SPEC, name) for name in SPEC.__dataclass_fields__}, **changes})


def rare_pool(seed: int = 0) -> tuple[list[str], np.ndarray, list[str], Known]:
    """200 images with 10 % rare ones; 3 rare and 9 others are known."""
    ids, matrix, names = blobs({"rare": 20, "b": 90, "c": 90}, seed)
    known = [0, 1, 2, *range(20, 26), *range(110, 113)]
    labels = ["rare" if names[row] == "rare" else "Other" for row in known]
    rest = [row for row in range(200) if row not in known]
    training = known_of([ids[row] for row in known], matrix[known], labels)
    return [ids[row] for row in rest], matrix[rest], [names[row] for row in rest], training


@pytest.mark.parametrize("name", NAMES)
def test_the_same_picks_whatever_the_order_and_the_blocks(name: str) -> None:
    ids, matrix, _, known = rare_pool()
    first = pick(spec(strategy=name), pool_of(ids, matrix), known)
    shuffled = np.random.default_rng(1).permutation(len(ids))
    for block_rows in (1, 7, 64, 8_192):
        again = pick(spec(strategy=name), pool_of([ids[i] for i in shuffled], matrix[shuffled], block_rows), known)
        assert again == first
    assert pick(spec(strategy=name, seed=8), pool_of(ids, matrix), known).picks != first.picks


@pytest.mark.parametrize("name", NAMES)
def test_picks_are_distinct_ranked_and_explained(name: str) -> None:
    ids, matrix, _, known = rare_pool()
    result = pick(spec(strategy=name), pool_of(ids, matrix), known)
    assert len({p.image_id for p in result.picks}) == result.summary.picked == 12
    assert {p.image_id for p in result.picks} <= set(ids)
    assert [p.rank for p in result.picks] == list(range(1, 13))
    control = [p for p in result.picks if p.arm is Arm.CONTROL]
    assert len(control) == 3
    for p in result.picks:
        assert p.inclusion_probability == (3 / len(ids) if p.arm is Arm.CONTROL else 1.0)
        assert (p.pool_size, p.round) == (len(ids), 1)
        assert len(p.neighbors) == 3
        assert p.neighbors[0].image_id in p.reason
        assert [n.similarity for n in p.neighbors] == sorted((n.similarity for n in p.neighbors), reverse=True)
        assert 0.0 <= p.predicted_probability <= 1.0


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(NAMES),
    st.integers(0, 30),
    st.integers(0, 6),
    st.integers(1, 40),
    st.floats(0, 1),
    st.integers(0, 2**64 - 1),
    st.randoms(use_true_random=False),
)
def test_any_small_pool_gives_a_defined_answer(
    name: str, size: int, labeled: int, count: int, control: float, seed: int, random: object
) -> None:
    rng = np.random.default_rng(random.randrange(2**32))  # type: ignore[attr-defined]
    matrix = rng.normal(size=(size + labeled, 12)).astype(np.float32)
    matrix[rng.random(size + labeled) < 0.15] = 0.0
    ids = [f"i{n}" for n in rng.permutation(size + labeled)]
    labels = [str(rng.choice(["rare", "Other", "b"])) for _ in range(labeled)]
    usable = [row for row in range(labeled) if matrix[row].any()]
    known = known_of([ids[row] for row in usable], matrix[usable], [labels[row] for row in usable])
    pool = pool_of(ids[labeled:], matrix[labeled:])
    groups = {image: f"g{n % 3}" for n, image in enumerate(ids) if n % 2}
    request = spec(strategy=name, count=count, control_fraction=control, seed=seed)
    try:
        result = pick(request, pool, Known(known.training, groups))
    except InvalidInput as error:
        assert error.reason in {"OTHER_LABEL_MISSING", "NO_WANTED_LABEL", "NO_EXAMPLES"}  # noqa: PT017
        return
    picked = [p.image_id for p in result.picks]
    assert len(set(picked)) == len(picked) <= min(count, size)
    assert set(picked) <= set(ids[labeled:])
    broken = set(result.summary.unusable_ids)
    assert broken == {image for image, row in zip(ids[labeled:], matrix[labeled:], strict=True) if not row.any()}
    main = [p for p in result.picks if p.arm is Arm.MAIN]
    assert not broken & {p.image_id for p in main}
    for group in set(groups.values()):
        assert len([p for p in main if p.group_id == group]) <= 1


def test_find_more_finds_and_random_does_not() -> None:
    ids, matrix, names, known = rare_pool()
    truth = dict(zip(ids, names, strict=True))

    def hits(strategy: str) -> int:
        result = pick(spec(strategy=strategy, control_fraction=0.0, count=15), pool_of(ids, matrix), known)
        return sum(truth[p.image_id] == "rare" for p in result.picks)

    assert hits("find-more") >= 14
    assert hits("find-similar") >= 12
    assert hits("random") <= 6


def test_two_modes_of_one_class_are_both_found() -> None:
    ids, matrix, names = blobs({"day": 20, "night": 20, "b": 150, "c": 150}, seed=3, spread=0.25)
    known = [0, 1, 20, 21, *range(40, 50), *range(190, 200)]
    labels = ["wanted" if names[row] in ("day", "night") else "Other" for row in known]
    rest = [row for row in range(len(ids)) if row not in known]
    truth = {ids[row]: names[row] for row in rest}
    result = pick(
        spec(strategy="find-more", target_labels=("wanted",), count=36, control_fraction=0.0),
        pool_of([ids[row] for row in rest], matrix[rest]),
        known_of([ids[row] for row in known], matrix[known], labels),
    )
    found = [truth[p.image_id] for p in result.picks]
    assert min(found.count("day"), found.count("night")) >= 15


@pytest.mark.parametrize("name", ["cover", "cover-spread", "cover-typical"])
def test_covering_takes_something_of_every_cluster_first(name: str) -> None:
    ids, matrix, names = blobs({"a": 100, "b": 40, "c": 8, "d": 8}, spread=0.1)
    count = 8 if name == "cover-typical" else 4  # k-means may cut a large cluster before it finds a small one
    result = pick(
        spec(strategy=name, count=count, control_fraction=0.0), pool_of(ids, matrix), known_of([], matrix[:0], [])
    )
    truth = dict(zip(ids, names, strict=True))
    assert {truth[p.image_id] for p in result.picks} == {"a", "b", "c", "d"}
    if name == "cover":
        scores = [p.score for p in result.picks]
        assert scores == sorted(scores, reverse=True)


def test_the_edges_come_first_in_a_spread_and_last_among_the_typical() -> None:
    ids, matrix, _ = blobs({"a": 80, "b": 80}, spread=0.1)
    matrix[17] = np.random.default_rng(5).normal(size=12)
    nothing = known_of([], matrix[:0], [])
    at = {}
    for name in ("cover-spread", "cover-typical"):
        result = pick(spec(strategy=name, count=160, control_fraction=0.0), pool_of(ids, matrix), nothing)
        at[name] = [p.image_id for p in result.picks].index(ids[17])
    assert at["cover-spread"] < 3
    assert at["cover-typical"] > 2
    rebuilt = pick(spec(strategy="cover-spread", count=5, control_fraction=0.0), pool_of(ids, matrix), nothing)
    units = unit_rows(matrix)
    rows = [ids.index(p.image_id) for p in rebuilt.picks]
    assert len(set(rows)) == 5
    assert (units[rows] @ units[rows].T)[np.triu_indices(5, 1)].max() < 0.999  # no repeats


@pytest.mark.parametrize("name", ["cover", "cover-spread", "cover-typical"])
def test_covering_leaves_out_what_labels_cover_already(name: str) -> None:
    ids, matrix, names = blobs({"a": 50, "b": 50}, spread=0.1)
    known = known_of(ids[:3], matrix[:3], ["a"] * 3)
    result = pick(spec(strategy=name, count=1, control_fraction=0.0), pool_of(ids[3:], matrix[3:]), known)
    assert names[ids.index(result.picks[0].image_id)] == "b"


def test_outliers_finds_the_odd_one() -> None:
    ids, matrix, _ = blobs({"a": 80, "b": 80}, spread=0.1)
    matrix[17] = np.random.default_rng(5).normal(size=12)
    result = pick(
        spec(strategy="outliers", count=1, control_fraction=0.0), pool_of(ids, matrix), known_of([], matrix[:0], [])
    )
    assert result.picks[0].image_id == ids[17]


def test_improve_model_covers_first_and_then_goes_between_the_classes() -> None:
    ids, matrix, names = blobs({"a": 100, "b": 100}, spread=0.2)
    few = pick(
        spec(strategy="improve-model", count=4), pool_of(ids[4:], matrix[4:]), known_of(ids[:4], matrix[:4], names[:4])
    )
    assert "too few" in few.summary.explanation
    known = [*range(15), *range(100, 115)]
    rest = [row for row in range(200) if row not in known]
    middle = len(rest)
    extended = np.vstack([matrix[rest], (matrix[:100].mean(0) + matrix[100:].mean(0))[None] / 2])
    many = pick(
        spec(strategy="improve-model", count=5, control_fraction=0.0),
        pool_of([*(ids[row] for row in rest), "between"], extended.astype(np.float32)),
        known_of([ids[row] for row in known], matrix[known], [names[row] for row in known]),
    )
    assert middle == 170
    assert "uncertain" in many.summary.explanation
    assert "between" in {p.image_id for p in many.picks}


def test_balance_gives_each_class_what_was_asked() -> None:
    ids, matrix, names = blobs({"a": 60, "b": 60, "c": 60}, spread=0.15)
    known = [*range(4), *range(60, 64), *range(120, 124)]
    rest = [row for row in range(180) if row not in known]
    result = pick(
        spec(strategy="balance", target_labels=(), count=12, control_fraction=0.0, per_class_count={"a": 2, "c": 9}),
        pool_of([ids[row] for row in rest], matrix[rest]),
        known_of([ids[row] for row in known], matrix[known], [names[row] for row in known]),
    )
    found = [names[ids.index(p.image_id)] for p in result.picks]
    assert (found.count("a"), found.count("b"), found.count("c")) == (2, 0, 9)


def test_near_duplicates_are_put_off_until_nothing_else_is_left() -> None:
    ids, matrix, _, known = rare_pool()
    best = pick(spec(strategy="find-more", count=1, control_fraction=0.0), pool_of(ids, matrix), known).picks[0]
    copies = np.repeat(matrix[[ids.index(best.image_id)]], 5, axis=0)
    result = pick(
        spec(strategy="find-more", count=6, control_fraction=0.0),
        pool_of([*ids, *(f"copy{n}" for n in range(5))], np.vstack([matrix, copies])),
        known,
    )
    assert sum(p.image_id.startswith("copy") or p.image_id == best.image_id for p in result.picks) == 1
    only = pick(
        spec(strategy="find-more", count=3, control_fraction=0.0),
        pool_of([f"copy{n}" for n in range(5)], copies),
        known,
    )
    assert [p.image_id for p in only.picks] == ["copy0", "copy1", "copy2"]


def test_groups_hold_the_main_picks_to_their_quota() -> None:
    ids, matrix, names, known = rare_pool()
    groups = {image: "all" for image, name in zip(ids, names, strict=True) if name == "rare"}
    for quota in (1, 3):
        result = pick(
            spec(strategy="find-more", count=8, control_fraction=0.0, max_per_group=quota),
            pool_of(ids, matrix),
            Known(known.training, groups),
        )
        assert [p.group_id for p in result.picks].count("all") == quota


def test_doubtful_labels_count_less() -> None:
    ids, matrix, names, _ = rare_pool()
    rare, b = names.index("rare"), names.index("b")
    labeled = merged(
        [
            LabeledImage("sure", ("rare",), 0.99),
            LabeledImage("doubtful", ("rare",), 0.51),  # looks like b, and is only half believed to be rare
            *(LabeledImage(f"o{n}", ("Other",), 0.9) for n in range(4)),
        ]
    )
    others = [row for row, name in enumerate(names) if name == "c"][:3]
    vectors = unit_rows(matrix[[rare, b, b + 1, *others]])
    training = training_set(labeled, ["sure", "doubtful", "o0", "o1", "o2", "o3"], vectors)
    result = pick(spec(strategy="find-more", count=5, control_fraction=0.0), pool_of(ids, matrix), Known(training))
    truth = dict(zip(ids, names, strict=True))
    assert [truth[p.image_id] for p in result.picks].count("rare") >= 4


def test_an_image_with_several_labels_counts_for_each_of_them() -> None:
    ids, matrix, names = blobs({"day": 40, "night": 40, "x": 80}, spread=0.2)
    labeled = merged(
        [
            LabeledImage(ids[0], ("day", "street")),
            LabeledImage(ids[40], ("night", "street")),
            *(LabeledImage(ids[row], ("Other",)) for row in range(80, 86)),
        ]
    )
    known = [0, 40, *range(80, 86)]
    training = Known(training_set(labeled, [ids[row] for row in known], unit_rows(matrix[known])))
    rest = [row for row in range(160) if row not in known]
    pool = pool_of([ids[row] for row in rest], matrix[rest])
    for target, count, found in (("street", 70, {"day", "night"}), ("night", 35, {"night"})):
        request = spec(strategy="find-more", target_labels=(target,), count=count, control_fraction=0.0)
        assert {names[ids.index(p.image_id)] for p in pick(request, pool, training).picks} == found


def answer(**changes: object) -> SelectResult:
    ids, matrix, _, known = rare_pool()
    return pick(spec(**changes), pool_of(ids, matrix), known)


def test_relabel_asks_about_new_images_and_again_about_doubtful_ones() -> None:
    ids, matrix, names = blobs({"a": 60, "b": 60}, spread=0.3)
    labeled = merged(
        LabeledImage(ids[row], (label,), chance)
        for row, label, chance in [
            *((row, "a", 0.97) for row in range(20)),
            *((row, "b", 0.97) for row in range(60, 80)),
            (20, "a", 0.5),  # workers disagreed
            (21, "b", 0.97),  # looks like a: its neighbors contradict the label
            (22, "b", 0.97),
        ]
    )
    known = [*range(23), *range(60, 80)]
    training = training_set(labeled, [ids[row] for row in known], unit_rows(matrix[known]))
    rest = [row for row in range(120) if row not in known]
    pool = pool_of([ids[row] for row in rest], matrix[rest])
    request = spec(strategy="relabel", target_labels=(), count=120, control_fraction=0.0)
    result = pick(request, pool, Known(training))
    picked = [p.image_id for p in result.picks]
    assert {ids[row] for row in rest} <= set(picked)
    again = [p for p in result.picks if p.image_id in training.ids]
    assert {p.image_id for p in again[:3]} == {ids[20], ids[21], ids[22]}
    assert picked.index(ids[20]) < 77  # one queue: a new image that is clear comes after a doubtful old one
    assert [p.score for p in result.picks] == sorted((p.score for p in result.picks), reverse=True)
    contradicted = next(p for p in again if p.image_id == ids[21])
    assert "one more answer, now b (0.97)" in contradicted.reason
    assert ids[21] not in {near.image_id for near in contradicted.neighbors}
    held = pick(request, pool, Known(training, in_flight={ids[21]}))
    assert ids[21] not in {p.image_id for p in held.picks}
    sure = Known(trained([ids[r] for r in known], matrix[known], [names[r] for r in known]))
    assert pick(request, pool_of([], matrix[:0]), sure).picks == ()  # sure labels are not paid for again


def test_auto_says_what_it_chose_and_why() -> None:
    ids, matrix, _, _ = rare_pool()
    nothing = known_of([], matrix[:0], [])
    assert answer(strategy="").summary.strategy == "find-more"
    assert "examples are known" in answer(strategy="auto").summary.explanation
    cold = pick(spec(strategy=""), pool_of(ids, matrix), nothing).summary
    assert (cold.strategy, "nothing is labeled yet" in cold.explanation) == ("cover", True)
    assert answer(target_labels=()).summary.strategy == "improve-model"
    assert answer(target_labels=("unseen",)).summary.strategy == "cover"
    assert answer(per_class_count={"rare": 3}).summary.strategy == "balance"
    one = Known(trained(ids[:2], matrix[:2], ["rare", "rare"]))
    assert pick(spec(target_labels=()), pool_of(ids[2:], matrix[2:]), one).summary.strategy == "cover"


def test_without_other_a_sample_of_the_pool_stands_in_and_it_says_so() -> None:
    ids, matrix, names, _ = rare_pool()
    rare = [row for row, name in enumerate(names) if name == "rare"]
    known = known_of([ids[row] for row in rare[:3]], matrix[rare[:3]], ["rare"] * 3)
    rest = [row for row in range(len(ids)) if row not in rare[:3]]
    result = pick(
        spec(strategy="find-more", count=8, control_fraction=0.0), pool_of([ids[r] for r in rest], matrix[rest]), known
    )
    truth = dict(zip(ids, names, strict=True))
    assert sum(truth[p.image_id] == "rare" for p in result.picks) >= 7
    assert any("stands in" in warning for warning in result.summary.warnings)


@pytest.mark.parametrize("name", NAMES)
def test_empty_pool(name: str) -> None:
    _, matrix, _, known = rare_pool()
    result = pick(spec(strategy=name), pool_of([], matrix[:0]), known)
    assert (result.picks, result.summary.picked, result.summary.scanned) == ((), 0, 0)
    assert any("empty" in warning for warning in result.summary.warnings)


def test_more_is_asked_than_there_is() -> None:
    ids, matrix, _, known = rare_pool()
    result = pick(spec(count=10_000, strategy="find-more"), pool_of(ids, matrix), known)
    assert sorted(p.image_id for p in result.picks) == sorted(ids)


def test_unusable_vectors_are_listed_and_only_drawn_as_control() -> None:
    ids, matrix, _, known = rare_pool()
    matrix[3], matrix[4] = 0.0, np.nan
    result = pick(spec(strategy="find-more", count=len(ids), control_fraction=0.1), pool_of(ids, matrix), known)
    assert set(result.summary.unusable_ids) == {ids[3], ids[4]}
    assert not {ids[3], ids[4]} & {p.image_id for p in result.picks if p.arm is Arm.MAIN}
    every = pick(spec(strategy="find-more", count=len(ids), control_fraction=1.0), pool_of(ids, matrix), known)
    assert sorted(p.image_id for p in every.picks) == sorted(ids)
    assert all(p.inclusion_probability == 1.0 for p in every.picks)


def test_control_images_do_not_depend_on_the_strategy() -> None:
    draws = [{p.image_id for p in answer(strategy=name).picks if p.arm is Arm.CONTROL} for name in NAMES]
    assert all(draw == draws[0] for draw in draws)
    other = {p.image_id for p in answer(round=2).picks if p.arm is Arm.CONTROL}
    assert other != draws[0]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"strategy": "find-mor"}, "UNKNOWN_STRATEGY"),
        ({"count": 0}, "BAD_COUNT"),
        ({"count": 1_000_001}, "BAD_COUNT"),
        ({"control_fraction": 1.01}, "BAD_SHARE"),
        ({"control_fraction": float("nan")}, "BAD_SHARE"),
        ({"per_class_count": {"a": -1}}, "BAD_COUNT"),
        ({"strategy": "find-more", "target_labels": (), "other_label": ""}, "NO_TARGETS"),
        ({"strategy": "find-similar", "target_labels": ("unseen",)}, "NO_EXAMPLES"),
        ({"strategy": "compat", "other_label": "None"}, "OTHER_LABEL_MISSING"),
    ],
)
def test_what_can_never_work_is_refused(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        answer(**changes)
    assert caught.value.reason == reason


def test_an_unknown_strategy_names_the_nearest() -> None:
    with pytest.raises(InvalidInput, match="did you mean find-more"):
        answer(strategy="find-mor")


def test_an_image_with_two_vectors_is_refused() -> None:
    with pytest.raises(InvalidInput) as caught:
        pool_of(["a", "b", "a"], np.eye(3, 12))
    assert caught.value.reason == "REPEATED_IMAGE"
