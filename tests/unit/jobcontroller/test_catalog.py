# SPDX-License-Identifier: GPL-3.0-or-later
"""Images and labels into the catalog, answers from elsewhere, reviews, exports, and forgetting."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from gandt_jobcontroller.service.importing import BATCH_FILES, MAX_IMAGE_BYTES, ImageImport
from PIL import Image

from gandt.adapters.local_files import LocalFiles
from gandt.domain.catalog import LabelKind
from gandt.domain.datasets import Answer, AnswerState
from gandt.domain.errors import InvalidInput, NotFound
from gandt.domain.images import image_id_of
from gandt.domain.labeling.outcomes import GivenLabel, ImportReport
from gandt.domain.paging import token_after
from tests.unit.jobcontroller.world import PLACES, World, spec
from tests.unit.refused_places import refused


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.store.close()


def encoded(
    kind: str = "PNG", mode: str = "RGB", size: tuple[int, int] = (40, 20), shade: int = 90, **how: object
) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, shade if mode in ("L", "F", "I;16") else tuple([shade] * len(mode))).save(out, kind, **how)
    return out.getvalue()


def rotated(shade: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded("JPEG", shade=shade, exif=exif)


def animated() -> bytes:
    frames = [Image.new("P", (16, 16), n) for n in range(3)]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    return out.getvalue()


def bomb() -> bytes:
    data = bytearray(encoded())
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    return bytes(data)


def read_all(world: World, *uris: str) -> tuple[ImportReport, dict[str, str]]:
    return outcome(world.controller.catalog.import_images(list(uris)))


def outcome(imported: Iterator[ImportReport]) -> tuple[ImportReport, dict[str, str]]:
    reports = list(imported)
    refused = {r.uri.rsplit("/", 1)[-1]: r.error.reason for report in reports for r in report.rejected}
    return reports[-1], refused


def test_each_bad_file_is_refused_alone(world: World) -> None:
    good = {
        "a.png": encoded(),
        "cmyk.jpg": encoded("JPEG", "CMYK"),
        "deep.png": encoded("PNG", "I;16"),
        "moving.gif": animated(),
        "turned.jpg": rotated(10),
        "see-through.png": encoded("PNG", "RGBA"),
        "photo.webp": encoded("WEBP"),
    }
    noise = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(noise, "PNG")
    bad = {
        "empty.jpg": (b"", "IMAGE_EMPTY"),
        "cut.png": (noise.getvalue()[: len(noise.getvalue()) // 2], "IMAGE_TRUNCATED"),
        "notes.txt": (b"buy milk", "NOT_AN_IMAGE"),
        "bomb.png": (bomb(), "IMAGE_TOO_MANY_PIXELS"),
        "phone.heic": (b"\0\0\0\x18ftypheic\0\0\0\0", "IMAGE_FORMAT_UNSUPPORTED"),
        "float.tif": (encoded("TIFF", "F", shade=1), "IMAGE_FORMAT_UNSUPPORTED"),
        "huge.jpg": (b"x" * (MAX_IMAGE_BYTES + 1), "IMAGE_TOO_LARGE"),
    }
    for name, data in good.items():
        world.objects.put(f"s3://photos/in/{name}", data)
    for name, (data, _) in bad.items():
        world.objects.put(f"s3://photos/in/{name}", data)
    world.objects.put("s3://photos/in/.hidden/x.png", b"never looked at")
    last, refused = read_all(world, "s3://photos/in/")
    assert refused == {name: reason for name, (_, reason) in bad.items()}
    counts = last.summary
    assert (counts.files, counts.added, counts.rejected) == (14, 7, 7)
    assert last.done
    images, token, total = world.controller.catalog.list_images(0, "")
    assert (len(images), token, total) == (7, "", 7)
    turned = next(i for i in images if i.uris[0].endswith("turned.jpg"))
    assert (turned.width, turned.height, turned.format) == (20, 40, "JPEG")
    assert turned.image_id == image_id_of(good["turned.jpg"])
    for image in images:
        with Image.open(io.BytesIO(world.objects.get(image.thumbnail_uri))) as small:
            assert (small.format, small.mode) == ("JPEG", "RGB")
            assert (small.width > small.height) == (image.width > image.height)
            assert not small.getexif()


def test_thumbnails_are_small(world: World) -> None:
    world.objects.put("s3://photos/big.jpg", encoded("JPEG", size=(1000, 700), comment=b"mine"))
    read_all(world, "s3://photos/big.jpg")
    (image,), _, _ = world.controller.catalog.list_images(0, "")
    with Image.open(io.BytesIO(world.objects.get(image.thumbnail_uri))) as small:
        assert small.size == (320, 224)
        assert "comment" not in small.info
    assert (image.width, image.height) == (1000, 700)


def test_importing_again_reads_nothing_and_duplicates_are_one_image(world: World) -> None:
    for number in range(3):
        world.objects.put(f"s3://photos/in/{number}.png", encoded(shade=number))
    world.objects.put("s3://photos/in/copy/0.png", encoded(shade=0))
    last, _ = read_all(world, "s3://photos/in/")
    assert (last.summary.added, last.summary.duplicates, last.summary.unchanged) == (3, 1, 0)
    reads: list[str] = []
    get = world.objects.get

    def counted(uri: str) -> bytes:
        reads.append(uri)
        return get(uri)

    world.objects.get = counted  # type: ignore[method-assign]
    last, _ = read_all(world, "s3://photos/in/")
    assert (last.summary.added, last.summary.unchanged, reads) == (0, 4, [])
    world.objects.put("s3://photos/in/2.png", encoded(shade=99))
    last, _ = read_all(world, "s3://photos/in/")
    assert (last.summary.added, last.summary.unchanged) == (1, 3)
    images, _, _ = world.controller.catalog.list_images(0, "")
    assert sorted(len(image.uris) for image in images) == [0, 1, 1, 2]


def test_an_import_that_was_cut_off_goes_on(world: World) -> None:
    for number in range(BATCH_FILES + 4):
        world.objects.put(f"s3://photos/in/{number}.png", encoded(shade=number))
    started = world.controller.catalog.import_images(["s3://photos/in/"])
    assert [next(started).summary.files for _ in range(2)] == [0, BATCH_FILES]
    started.close()  # type: ignore[attr-defined]
    world.restart()
    last, _ = read_all(world, "s3://photos/in/")
    assert (last.summary.unchanged, last.summary.added) == (BATCH_FILES, 4)


def test_nothing_there_is_an_error_and_a_missing_file_is_refused(world: World) -> None:
    with pytest.raises(NotFound, match="there are no images below s3://photos/none/"):
        read_all(world, "s3://photos/none/")
    with pytest.raises(InvalidInput):
        read_all(world)
    last, refused = read_all(world, "s3://photos/gone.png")
    assert refused == {"gone.png": "IMAGE_NOT_FOUND"}
    assert last.summary.rejected == 1


def test_what_cannot_be_listed_is_refused_alone(world: World, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    (photos / "locked").mkdir(parents=True)
    (photos / ".hidden").mkdir()
    for number, name in enumerate(("a.png", "no.png", "locked/b.png")):
        (photos / name).write_bytes(encoded(shade=number))
    (photos / "gone.png").symlink_to("nowhere.png")
    (photos / ".hidden" / "gone.png").symlink_to("nowhere.png")
    Path(os.fsdecode(os.fsencode(photos) + b"/caf\xe9.png")).write_bytes(encoded())
    objects = LocalFiles(tmp_path / "objects")
    start = f"s3://{objects.mount(photos)}/"
    images = ImageImport(world.store, objects, world.parts.inspector, PLACES)
    with refused(photos / "locked", photos / "no.png"):
        last, told = outcome(images.run([start, f"{start}none.png"]))
    assert told == {
        "no.png": "FILE_PERMISSION",
        "locked": "FILE_PERMISSION",
        "gone.png": "BROKEN_LINK",
        "none.png": "IMAGE_NOT_FOUND",
        "caf\\xe9.png": "FILE_NAME",
    }
    assert (last.summary.added, last.summary.rejected, last.summary.files) == (1, 5, 6)
    last, _ = outcome(images.run([start]))
    assert (last.summary.added, last.summary.unchanged, last.summary.rejected) == (2, 1, 2)


def test_labels_find_their_images(world: World) -> None:
    ids = world.add_images(4)
    given = [
        GivenLabel(ids[0], ("cat",)),
        GivenLabel("s3://photos/a/001.jpg", ("dog",)),
        GivenLabel("a/002.jpg", (" dog ",)),
        GivenLabel("003.jpg", ("cat",)),
        GivenLabel("nowhere.jpg", ("cat",)),
        GivenLabel("000.jpg", ()),
        GivenLabel("001.jpg", ("cat", "dog")),
        GivenLabel("002.jpg", ("a|b",)),
    ]
    done = world.controller.catalog.import_labels(given, LabelKind.SEED, multi_label=False)
    assert (done.imported, done.unchanged) == (4, 0)
    assert {r.index: r.error.reason for r in done.rejected} == {
        4: "IMAGE_NOT_FOUND",
        5: "NO_LABEL",
        6: "SEVERAL_LABELS",
        7: "BAD_CLASS",
    }
    again = world.controller.catalog.import_labels(given[:4], LabelKind.SEED, multi_label=False)
    assert (again.imported, again.unchanged) == (0, 4)
    changed = world.controller.catalog.import_labels([GivenLabel("000.jpg", ("dog",))], LabelKind.SEED, False)
    assert (changed.imported, changed.unchanged) == (1, 0)


def test_a_basename_that_two_images_have_is_ambiguous(world: World) -> None:
    for number, folder in enumerate(("x", "y")):
        world.objects.put(f"s3://photos/{folder}/0.png", encoded(shade=number))
    read_all(world, "s3://photos/x/", "s3://photos/y/")
    done = world.controller.catalog.import_labels(
        [GivenLabel("0.png", ("cat",)), GivenLabel("y/0.png", ("dog",))], LabelKind.SEED, False
    )
    assert [(r.index, r.error.reason) for r in done.rejected] == [(0, "AMBIGUOUS_IMAGE")]
    assert done.imported == 1


def test_the_same_bytes_with_different_labels(world: World) -> None:
    for folder in ("x", "y"):
        world.objects.put(f"s3://photos/{folder}/0.png", encoded())
    read_all(world, "s3://photos/")
    given = [GivenLabel("x/0.png", ("cat",)), GivenLabel("y/0.png", ("dog",))]
    refused = world.controller.catalog.import_labels(given, LabelKind.SEED, multi_label=False)
    assert [r.error.reason for r in refused.rejected] == ["CONFLICTING_LABELS"] * 2
    assert "x/0.png is cat; y/0.png is dog" in refused.rejected[0].error.message
    taken = world.controller.catalog.import_labels(given, LabelKind.SEED, multi_label=True)
    assert taken.rejected == ()
    assert world.store.known_labels(LabelKind.SEED)[0].labels == ("cat", "dog")


def test_pages_of_a_list_fit_together_and_foreign_tokens_are_refused(world: World) -> None:
    ids = sorted(world.add_images(5))
    first, token, total = world.controller.catalog.list_images(2, "")
    second, token2, _ = world.controller.catalog.list_images(2, token)
    third, end, _ = world.controller.catalog.list_images(2, token2)
    assert [i.image_id for i in (*first, *second, *third)] == ids
    assert (total, end) == (5, "")
    world.controller.campaigns.create(spec(), "", manual=True)
    for bad in ("junk", token):
        with pytest.raises(InvalidInput, match="page_token does not belong"):
            world.controller.catalog.list_labels("", "", False, 0, bad)
    with pytest.raises(InvalidInput, match="0 to 1000"):
        world.controller.catalog.list_images(1001, "")


@pytest.mark.parametrize("key", ["99999999999999999999999", "7", 2**63, -1, True, 1.5, None, [], {}, [1, 2]])
def test_forged_numbers_in_page_tokens_are_refused(world: World, key: object) -> None:
    made = world.controller.campaigns.create(spec(), "", manual=True)
    campaign_id, rounds = made.campaign_id, world.controller.rounds
    pages: list[tuple[str, Callable[[str], object]]] = [
        ("campaigns", lambda token: world.controller.campaigns.list_campaigns(0, token)),
        (f"rounds:{campaign_id}", lambda token: rounds.list_rounds("", 0, token)),
        (f"jobs:{campaign_id}:", lambda token: rounds.list_jobs("", "", 0, token)),
        (f"answers:{campaign_id}:", lambda token: world.controller.answers.list_answers("", "", 0, token)),
    ]
    for listing, page in pages:
        with pytest.raises(InvalidInput) as caught:
            page(token_after(listing, key))
        assert caught.value.reason == "BAD_PAGE_TOKEN"


@pytest.mark.parametrize("key", [5, None, ["a"] * 2, "\ud800", "a\0"])
def test_forged_names_in_page_tokens_are_refused(world: World, key: object) -> None:
    made = world.controller.campaigns.create(spec(), "", manual=True)
    pages: list[tuple[str, Callable[[str], object]]] = [
        ("images", lambda token: world.controller.catalog.list_images(0, token)),
        (f"workers:{made.campaign_id}", lambda token: world.controller.answers.list_workers("", 0, token)),
        (f"labels:{made.campaign_id}::False", lambda t: world.controller.catalog.list_labels("", "", False, 0, t)),
    ]
    for listing, page in pages:
        with pytest.raises(InvalidInput) as caught:
            page(token_after(listing, key))
        assert caught.value.reason == "BAD_PAGE_TOKEN"


def test_answers_from_elsewhere_become_labels(world: World) -> None:
    ids = world.add_images(3)
    world.controller.campaigns.create(spec(round_size=3), "", manual=True)
    made = world.controller.rounds.create("", 0, "", "")
    at = datetime(2026, 1, 2, tzinfo=UTC)
    given = [
        Answer("000.jpg", "ann", ("cat",), answered_at=at, seconds=2.5),
        Answer(ids[0], "bob", ("cat",), job="old-job"),
        Answer(ids[1], "ann", (), state=AnswerState.ANSWERED),
        Answer(ids[1], "bob", ("bird",)),
        Answer("gone.jpg", "bob", ("cat",)),
        Answer(ids[2], "", ("cat",)),
    ]
    done = world.controller.answers.import_answers("", given)
    assert (done.imported, done.unchanged) == (3, 0)
    assert {r.index: r.error.reason for r in done.rejected} == {
        3: "UNKNOWN_LABEL",
        4: "IMAGE_NOT_FOUND",
        5: "BAD_IMAGE_ID",
    }
    again = world.controller.answers.import_answers("", given)
    assert (again.imported, again.unchanged) == (0, 3)
    answers, _, total = world.controller.answers.list_answers("", "", 0, "")
    assert total == 3
    assert {(a.job, a.worker_id, a.state.value) for a in answers} == {
        ("imported", "ann", "answered"),
        ("imported", "ann", "blank"),
        ("old-job", "bob", "answered"),
    }
    assert next(a for a in answers if a.labels and a.worker_id == "ann").answered_at == at
    done2 = world.controller.rounds.aggregate(made.round_id)
    assert done2.certain == 1
    _, _, total = world.controller.catalog.list_labels("", "", False, 0, "")
    assert total == 3


def test_reviews_stand_above_workers_and_exports_hold_everything(world: World) -> None:
    world.add_images(12)
    seeds = [GivenLabel("010.jpg", ("dog",)), GivenLabel("011.jpg", ("dog",))]
    world.controller.catalog.import_labels(seeds, LabelKind.SEED, False)
    world.controller.campaigns.create(spec(), "", manual=False)
    world.run()
    count, refused = world.controller.answers.review(
        "", [GivenLabel("000.jpg", ("dog",)), GivenLabel("001.jpg", ("fish",))], "expert-1"
    )
    assert (count, [r.error.reason for r in refused]) == (1, ["UNKNOWN_LABEL"])
    rounds, _ = world.controller.rounds.list_rounds("", 0, "")
    world.controller.rounds.aggregate(rounds[-1].round_id)
    done = world.controller.export_labels("", "csv", "s3://gandt/out/labels.csv", False)
    data = world.objects.get("s3://gandt/out/labels.csv")
    assert (done.rows, done.sha256) == (12, hashlib.sha256(data).hexdigest())
    rows = {row["image"]: row for row in csv.DictReader(io.StringIO(data.decode()))}
    assert (rows["a/000.jpg"]["label"], rows["a/000.jpg"]["source"]) == ("dog", "review")
    assert (rows["a/010.jpg"]["source"], rows["a/010.jpg"]["round"]) == ("seed", "0")
    assert (rows["a/003.jpg"]["label"], rows["a/003.jpg"]["round"]) == ("cat", "1")
    world.controller.export_labels("", "manifest", "s3://gandt/out/labels.manifest", True)
    lines = [json.loads(line) for line in world.objects.get("s3://gandt/out/labels.manifest").decode().splitlines()]
    cat = next(line for line in lines if line["source-ref"].endswith("003.jpg"))
    assert (cat["label"], cat["label-metadata"]["class-name"]) == (0, "cat")
    for form in ("jsonl", "parquet"):
        assert world.controller.export_labels("", form, f"s3://gandt/out/x.{form}", True).rows == 12
    with pytest.raises(InvalidInput, match="format 'xls'"):
        world.controller.export_labels("", "xls", "s3://gandt/out/x", True)


def test_a_forgotten_worker_is_gone_and_his_answers_stay(world: World) -> None:
    world.add_images(10)
    world.controller.campaigns.create(spec(), "", manual=False)
    world.run()
    before, _ = world.controller.answers.list_workers("", 0, "")
    assert [w.worker_id for w in before] == ["w1", "w2", "w3", "w4"]
    count, new_id = world.controller.answers.forget_worker("w2")
    assert count == 10
    answers, _, total = world.controller.answers.list_answers("", "", 0, "")
    assert total == 30
    assert {a.worker_id for a in answers} == {"w1", new_id, "w3", "w4"}
    after, _ = world.controller.answers.list_workers("", 0, "")
    assert {w.worker_id for w in after} == {"w1", new_id, "w3", "w4"}
    with pytest.raises(NotFound):
        world.controller.answers.forget_worker("w2")


def test_a_worker_forgotten_while_a_job_runs_does_not_come_back(world: World) -> None:
    world.add_images(10)
    world.controller.campaigns.create(spec(round_size=10), "", manual=False)
    world.controller.answers.import_answers("", [Answer("000.jpg", "w2", ("cat",))])
    while not world.backend.jobs:
        world.controller.loop.run_once()
    _, new_id = world.controller.answers.forget_worker("w2")
    world.run()
    answers, _, _ = world.controller.answers.list_answers("", "", 0, "")
    assert {a.worker_id for a in answers} == {"w1", new_id, "w3", "w4"}
    assert world.store.count_answers(world.controller.campaigns.get("").campaign_id) == 31
