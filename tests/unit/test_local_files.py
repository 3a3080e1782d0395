# SPDX-License-Identifier: GPL-3.0-or-later
"""Local files beyond the common suite: mounts, several processes, and disks that refuse."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, ReadTimeoutError

from gandt.adapters import file_names
from gandt.adapters.local_files import LocalFiles
from gandt.adapters.s3 import S3Objects
from gandt.domain.errors import (
    BackendUnavailable,
    GandtError,
    InvalidInput,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    WrongState,
)
from gandt.domain.images import join_uri, split_uri
from gandt.ports.object_store import SkippedObject
from tests.unit.refused_places import refused


def test_uris_keep_what_a_url_parser_cuts() -> None:
    assert split_uri("s3://b/a#1/x?y=1/%20") == ("b", "a#1/x?y=1/%20")
    assert split_uri("s3://b") == ("b", "")
    assert split_uri("s3://b//k") == ("b", "/k")
    assert join_uri(*split_uri("s3://b/a#1/")) == "s3://b/a#1/"
    for uri in ("", "b/k", "S3://b/k", "https://b/k", "s3:///k"):
        with pytest.raises(InvalidInput):
            split_uri(uri)
    for bucket in ("", "a/b"):
        with pytest.raises(InvalidInput):
            join_uri(bucket, "k")


def test_a_mount_shows_a_folder_and_cannot_be_written(tmp_path: Path) -> None:
    photos = tmp_path / "My Photos (2024)"
    (photos / "trip").mkdir(parents=True)
    (photos / "trip" / "a:b%20 ü.jpg").write_bytes(b"jpeg")
    store = LocalFiles(tmp_path / "objects")
    bucket = store.mount(photos)
    assert bucket.startswith("my-photos-2024-")
    assert len(bucket.rpartition("-")[2]) == 8
    assert store.mount(photos) == bucket == LocalFiles(tmp_path / "objects").mount(tmp_path / "x" / ".." / photos.name)
    uri = f"s3://{bucket}/trip/a:b%20 ü.jpg"
    assert [info.uri for info in store.list(f"s3://{bucket}")] == [uri]
    assert [info.uri for info in store.list(f"s3://{bucket}/trip/a")] == [uri]
    assert list(store.list(f"s3://{bucket}/../")) == []
    assert store.get(uri) == b"jpeg"
    assert store.path_of(uri) == photos / "trip" / "a:b%20 ü.jpg"
    with pytest.raises(PermissionDenied) as caught:
        store.put(uri, b"x")
    assert caught.value.reason == "READ_ONLY_BUCKET"
    with pytest.raises(PermissionDenied):
        store.delete(uri)
    assert (photos / "trip" / "a:b%20 ü.jpg").read_bytes() == b"jpeg"
    with pytest.raises(NotFound):
        store.mount(tmp_path / "none")


def test_another_process_sees_a_mount_on_its_next_miss(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(b"1")
    other = LocalFiles(tmp_path / "objects")
    assert other.head("s3://photos-00000000/a.jpg") is None
    bucket = LocalFiles(tmp_path / "objects").mount(photos)
    assert other.get(f"s3://{bucket}/a.jpg") == b"1"
    assert other.has_bucket(bucket)
    assert not other.has_bucket("elsewhere")
    assert json.loads((tmp_path / "objects" / ".mounts.json").read_text()) == {bucket: str(photos)}


def test_no_key_leaves_its_folder(tmp_path: Path) -> None:
    photos, secret = tmp_path / "photos", tmp_path / "secret.txt"
    photos.mkdir()
    secret.write_text("secret")
    store = LocalFiles(tmp_path / "objects")
    bucket = store.mount(photos)
    for key in ("../secret.txt", "a/../../secret.txt", "./../secret.txt", "/secret.txt", "a\x00b", "..", str(secret)):
        with pytest.raises(InvalidInput):
            store.get(f"s3://{bucket}/{key}")
        with pytest.raises(NotFound):
            store.get(f"s3://own/{key}")
    for name in ("..", ".", ".tmp", ".mounts.json", "a b", "x" * 300):
        with pytest.raises(InvalidInput):
            store.get(f"s3://{name}/secret.txt")
    (photos / "link.jpg").symlink_to(secret)
    (photos / "folder").symlink_to(tmp_path)
    for key in ("link.jpg", "folder/secret.txt"):
        with pytest.raises(PermissionDenied) as caught:
            store.get(f"s3://{bucket}/{key}")
        assert caught.value.reason == "LINK_OUT_OF_FOLDER"
    assert list(store.list(f"s3://{bucket}")) == []


def test_every_key_has_one_name_and_comes_back() -> None:
    for key in (
        "a/b",
        "a//b",
        "/",
        "//",
        "..",
        ".",
        "%",
        "%25",
        "%2F",
        ":",
        "a\\b",
        "\x00",
        "x/../y",
        "ü",
        "new\nline",
    ):
        name = file_names.encoded(key)
        assert file_names.key_of(Path(name), mounted=False) == key
        assert not any(part in ("", ".", "..") for part in name.split("/"))
    assert file_names.key_of(Path("%3a"), mounted=False) is None  # no key is written so


def test_an_object_is_no_folder(tmp_path: Path) -> None:
    store = LocalFiles(tmp_path)
    store.put("s3://b/a", b"1")
    with pytest.raises(InvalidInput) as caught:
        store.put("s3://b/a/b", b"2")
    assert caught.value.reason == "KEY_IS_A_FOLDER"
    store.put("s3://b/c/d", b"2")
    with pytest.raises(InvalidInput):
        store.put("s3://b/c", b"3")
    with pytest.raises(InvalidInput):
        store.put("s3://b/" + "x" * 300, b"4")
    assert store.head("s3://b/" + "x" * 300) is None


@pytest.mark.parametrize(
    ("number", "kind", "reason"),
    [
        (errno.ENOSPC, WrongState, "DISK_FULL"),
        (errno.EDQUOT, WrongState, "DISK_FULL"),
        (errno.EROFS, PermissionDenied, "DISK_READ_ONLY"),
        (errno.EACCES, PermissionDenied, "FILE_PERMISSION"),
        (errno.EIO, BackendUnavailable, "DISK_ERROR"),
    ],
)
def test_a_disk_that_refuses_leaves_the_old_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[GandtError], reason: str
) -> None:
    store = LocalFiles(tmp_path)
    store.put("s3://b/key", b"old")

    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(kind) as caught:
        store.put("s3://b/key", b"new")
    assert caught.value.reason == reason
    assert str(tmp_path / "b" / "key") in caught.value.message
    assert caught.value.fix or reason == "DISK_ERROR"
    monkeypatch.undo()
    assert store.get("s3://b/key") == b"old"
    assert list((tmp_path / ".tmp").iterdir()) == []


def test_leftovers_of_killed_processes_are_swept(tmp_path: Path) -> None:
    store = LocalFiles(tmp_path)
    store.put("s3://b/key", b"1")
    old, young = tmp_path / ".tmp" / "old", tmp_path / ".tmp" / "young"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 2 * 86400,) * 2)
    LocalFiles(tmp_path)
    assert (old.exists(), young.exists()) == (False, True)
    assert [info.uri for info in store.list("s3://b")] == ["s3://b/key"]


def test_threads_that_put_and_delete_below_one_folder(tmp_path: Path) -> None:
    store = LocalFiles(tmp_path)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(40):
                uri = f"s3://b/x/y/{number}"
                store.put(uri, f"{turn}".encode() * 100)
                assert len(set(store.get(uri).decode().split(str(turn)))) == 1
                store.delete(uri)
        except BaseException as e:  # noqa: BLE001  reported below
            failures.append(e)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert list(store.list("s3://b")) == []


class Refusing:
    """An S3 client of which every call fails in one way."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(**kwargs: Any) -> Any:
            raise self._error

        return call


def refusal(code: str, status: int) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "GetObject")  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (refusal("NoSuchKey", 404), NotFound),
        (refusal("404", 404), NotFound),
        (refusal("AccessDenied", 403), PermissionDenied),
        (refusal("403", 403), PermissionDenied),
        (refusal("ExpiredToken", 400), Unauthenticated),
        (refusal("SlowDown", 503), BackendUnavailable),
        (refusal("500", 500), BackendUnavailable),
        (refusal("KeyTooLongError", 400), InvalidInput),
        (NoCredentialsError(), Unauthenticated),
        (EndpointConnectionError(endpoint_url="http://x"), BackendUnavailable),
        (ReadTimeoutError(endpoint_url="http://x"), BackendUnavailable),
    ],
)
def test_what_s3_says_becomes_a_domain_error(error: Exception, kind: type[GandtError]) -> None:
    store = S3Objects(Refusing(error))  # type: ignore[arg-type]
    with pytest.raises(kind) as caught:
        store.get("s3://b/k")
    assert "s3://b/k" in caught.value.message
    assert caught.value.__cause__ is error
    with pytest.raises(kind):
        list(store.list("s3://b/k"))
    if kind is NotFound:
        assert store.head("s3://b/k") is None


def test_what_a_folder_holds_besides_files_is_told_and_the_rest_is_listed(tmp_path: Path) -> None:
    photos, outside = tmp_path / "photos", tmp_path / "outside"
    for folder in (photos / "locked", photos / "open", outside):
        folder.mkdir(parents=True)
    longest = "x" * 251 + ".jpg"
    for path in (photos / "a.jpg", photos / "open" / "b.jpg", photos / longest, outside / "c.jpg"):
        path.write_bytes(b"1")
    Path(os.fsdecode(os.fsencode(photos) + b"/caf\xe9.jpg")).write_bytes(b"1")
    links: dict[str, str | Path] = {
        "gone": "nowhere",
        "loop": "loop",
        "out": outside / "c.jpg",
        "outd": outside,
        "ind": photos / "open",
    }
    for name, target in links.items():
        (photos / name).symlink_to(target)
    os.mkfifo(photos / "pipe")
    store = LocalFiles(tmp_path / "objects")
    start = f"s3://{store.mount(photos)}/"
    told: list[SkippedObject] = []
    with refused(photos / "locked"):
        listed = [info.uri.removeprefix(start) for info in store.list(start, told.append)]
    assert listed == ["a.jpg", "open/b.jpg", longest]
    assert {skipped.uri.removeprefix(start): skipped.error.reason for skipped in told} == {
        "locked": "FILE_PERMISSION",
        "caf\\xe9.jpg": "FILE_NAME",
        "gone": "BROKEN_LINK",
        "loop": "BROKEN_LINK",
        "out": "LINK_OUT_OF_FOLDER",
        "outd": "LINK_OUT_OF_FOLDER",
        "pipe": "NOT_A_FILE",
    }
    for skipped in told:
        name = skipped.uri.removeprefix(start)
        assert str(photos / name) in skipped.error.message
        assert skipped.error.fix
        skipped.error.message.encode()
        if skipped.error.reason in ("BROKEN_LINK", "NOT_A_FILE"):
            assert store.head(skipped.uri) is None
    with (
        refused(photos / "locked"),
        pytest.raises(PermissionDenied),
    ):  # who does not ask what is skipped must not take a part for the whole
        list(store.list(start))
    told.clear()
    assert [info.uri for info in store.list(f"{start}open/", told.append)] == [f"{start}open/b.jpg"]
    assert told == []


def test_a_folder_that_cannot_be_read_at_all_is_told_too(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    (photos / "in").mkdir(parents=True)
    store = LocalFiles(tmp_path / "objects")
    start = f"s3://{store.mount(photos)}/"
    for uri, folder in ((start, photos), (f"{start}in/", photos / "in")):
        told: list[SkippedObject] = []
        with refused(folder):
            assert list(store.list(uri, told.append)) == []
        assert [(f"{skipped.uri.rstrip('/')}/", skipped.error.reason) for skipped in told] == [(uri, "FILE_PERMISSION")]


def test_a_folder_that_cannot_be_read_hides_what_is_asked_for(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    (photos / "in").mkdir(parents=True)
    (photos / "in" / "b.jpg").write_bytes(b"1")
    store = LocalFiles(tmp_path / "objects")
    start = f"s3://{store.mount(photos)}/"
    for uri, folder, shown in ((f"{start}in/b", photos / "in", f"{start}in"), (f"{start}i", photos, start)):
        told: list[SkippedObject] = []
        with refused(folder):
            assert list(store.list(uri, told.append)) == []
            with pytest.raises(PermissionDenied):
                list(store.list(uri))
        assert [(skipped.uri, skipped.error.reason) for skipped in told] == [(shown, "FILE_PERMISSION")]


def test_a_path_longer_than_the_system_takes_is_told(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(b"1")
    here = os.open(photos, os.O_RDONLY)
    try:
        for _ in range(20):  # only with relative names can such a folder be made
            os.mkdir("d" * 250, dir_fd=here)
            below = os.open("d" * 250, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
    finally:
        os.close(here)
    store = LocalFiles(tmp_path / "objects")
    start = f"s3://{store.mount(photos)}/"
    told: list[SkippedObject] = []
    assert [info.uri for info in store.list(start, told.append)] == [f"{start}a.jpg"]
    assert [skipped.error.reason for skipped in told] == ["NAME_TOO_LONG"]
