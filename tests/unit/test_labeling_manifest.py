# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages and manifests: the original's bytes, our superset of them, and the service's limits."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gandt.adapters.memory_objects import MemoryObjects
from gandt.domain.errors import InvalidInput
from gandt.domain.labeling.manifest import (
    MAX_ATTRIBUTE_CHARACTERS,
    MAX_LINE_CHARACTERS,
    Tile,
    build_manifest,
    prepare_manifest,
    prepare_manifest_compat,
    question,
    unique_tiles,
    upload,
)
from gandt.domain.labeling.pages import mix_gold, pack_pages

ASKED = question(["Birthday", "Wedding"], "None of the above", ["s3://b/ex/yes.jpg"], ["s3://b/ex/no.jpg"])


def tiles(count: int, length: int = 20) -> list[Tile]:
    return [Tile(f"s3://b/{'p' * length}/{i:05d}.jpg", f"img-{i}") for i in range(count)]


def test_compat_is_the_originals_bytes() -> None:
    lines = prepare_manifest_compat(
        ["s3://b/é.jpg", "s3://b/1.jpg", "s3://b/2.jpg"], ["s3://b/y.jpg"], [], ["Birthday"], "Other", 2
    )
    assert lines[0] == (
        '{"source": "[{\\"event_names\\": [\\"Birthday\\"], \\"positive_examples\\": [\\"s3://b/y.jpg\\"], '
        '\\"negative_examples\\": [], \\"other_category_label\\": \\"Other\\", '
        '\\"source-ref\\": \\"s3://b/\\\\u00e9.jpg\\", \\"index\\": 0}, '
        '{\\"source-ref\\": \\"s3://b/2.jpg\\", \\"index\\": 2}]"}'
    )
    assert json.loads(json.loads(lines[1])["source"])[0]["index"] == 1
    assert prepare_manifest_compat([], [], [], ["a"]) == []


def test_the_default_form_is_a_superset_of_compat() -> None:
    listed = tiles(45)
    ours = prepare_manifest(listed, ASKED)
    theirs = prepare_manifest_compat(
        [tile.uri for tile in listed],
        ASKED.positive_examples,
        ASKED.negative_examples,
        ASKED.event_names,
        "None of the above",
    )
    assert len(ours.lines) == len(theirs) == 3
    for line, original, task in zip(ours.lines, theirs, ours.tasks, strict=True):
        page, before = json.loads(json.loads(line)["source"]), json.loads(json.loads(original)["source"])
        assert [{key: tile[key] for key in old} for tile, old in zip(page, before, strict=True)] == before
        assert {tile["task"] for tile in page} == {json.loads(line)["gandt-task"]} == {task.task_id}
        assert [(tile["index"], tile["id"]) for tile in page] == [(i, tile.image_id) for i, tile in task.tiles]
    assert list(json.loads(json.loads(ours.lines[0])["source"])[0])[:3] == ["task", "id", "event_names"]
    assert ours.data.endswith(b"\n")
    assert b"\n\n" not in ours.data


@given(st.integers(0, 200), st.integers(1, 30))
def test_pages_hold_every_item_once_and_differ_by_one(count: int, group_size: int) -> None:
    pages = pack_pages(range(count), group_size)
    assert sorted(item for page in pages for item in page) == list(range(count))
    assert all(item % len(pages) == number for number, page in enumerate(pages) for item in page)
    assert not pages or max(map(len, pages)) - min(map(len, pages)) <= 1
    assert all(len(page) <= group_size for page in pages)


@given(st.integers(1, 60), st.integers(1, 20))
def test_the_index_is_the_place_in_the_whole_list(count: int, group_size: int) -> None:
    manifest = prepare_manifest(tiles(count), ASKED, group_size)
    assert {index: tile.image_id for task in manifest.tasks for index, tile in task.tiles} == {
        i: f"img-{i}" for i in range(count)
    }


@pytest.mark.parametrize("length", [20, 150, 600])
@pytest.mark.parametrize("label", ["cat", 'quo"ted \\ ünïcode'])
def test_a_line_too_long_names_the_group_size_that_fits(length: int, label: str) -> None:
    listed = tiles(400, length)
    asked = question([label, "dog"], "Other")
    with pytest.raises(InvalidInput, match="line 1 ") as caught:
        prepare_manifest(listed, asked, 400)
    assert caught.value.reason == "MANIFEST_LINE_TOO_LONG"
    fits = int(caught.value.metadata["group_size"])
    assert fits > 10
    for line in prepare_manifest(listed, asked, fits).lines:
        assert len(line) <= MAX_LINE_CHARACTERS
        assert len(json.loads(line)["source"]) <= MAX_ATTRIBUTE_CHARACTERS


def test_a_page_that_never_fits_says_so() -> None:
    with pytest.raises(InvalidInput) as caught:
        prepare_manifest([Tile("s3://b/" + "x" * 20_000)], ASKED)
    assert "shorter" in caught.value.fix


@pytest.mark.parametrize(
    ("classes", "other"),
    [
        ([], "Other"),
        (["a", " A "], "Other"),
        (["a", "other"], "Other"),
        (["Tom &amp; J", "Tom & J"], "x"),
        (["x"], "x"),
    ],
)
def test_labels_are_unique(classes: list[str], other: str) -> None:
    with pytest.raises(InvalidInput):
        question(classes, other)


def test_the_other_label_among_the_classes_is_asked_once() -> None:
    assert question(["cat", "Other"], "Other").event_names == ("cat",)


def test_what_is_no_s3_uri_is_refused() -> None:
    for uri in ["photos/1.jpg", "https://b/1.jpg", "s3://b"]:
        with pytest.raises(InvalidInput):
            prepare_manifest([Tile(uri)], ASKED)
    with pytest.raises(InvalidInput):
        question(["a"], "b", ["x.jpg"])
    with pytest.raises(InvalidInput):
        prepare_manifest(tiles(2), ASKED, 0)


def test_repeated_images() -> None:
    unique, repeated = unique_tiles([Tile("s3://b/1", "a"), Tile("s3://b/2", "a"), Tile("s3://b/1"), Tile("s3://b/1")])
    assert ([tile.uri for tile in unique], repeated) == (["s3://b/1", "s3://b/1"], 2)
    with pytest.raises(InvalidInput):
        build_manifest([[Tile("s3://b/1", "a"), Tile("s3://b/2", "a")]], ASKED)


def test_gold_stands_on_every_page_and_comes_equally_often() -> None:
    pages, gold = [[f"i{p}-{i}" for i in range(5)] for p in range(9)], ["g1", "g2", "g3"]
    mixed = mix_gold(pages, gold, 2, random.Random(7))
    assert mixed == mix_gold(pages, gold, 2, random.Random(7))
    shown = [tile for page in mixed for tile in page if tile in gold]
    assert {name: shown.count(name) for name in gold} == {"g1": 6, "g2": 6, "g3": 6}
    for page, before in zip(mixed, pages, strict=True):
        assert [tile for tile in page if tile not in gold] == before
        assert len(set(page)) == 7
    assert len({tuple(tile in gold for tile in page) for page in mixed}) > 1
    assert [len(page) for page in mix_gold([["g1", "a"]], ["g1"], 2, random.Random(0))] == [2]


def test_upload_is_addressed_by_content() -> None:
    store = MemoryObjects()
    first = upload(store, "s3://b/gandt/r1/", b"one")
    assert first == upload(store, "s3://b/gandt/r1", b"one")
    assert first != upload(store, "s3://b/gandt/r1", b"two")
    assert store.get(first) == b"one"
    assert first.endswith("/input.manifest")
