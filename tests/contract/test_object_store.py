# SPDX-License-Identifier: GPL-3.0-or-later
"""One suite for every object store: the same calls give the same results.

Another adapter joins by adding a factory to `STORES`; a factory gets an empty folder and returns an empty store. S3 is
spoken to our own labeling service's `/s3/` endpoint, over boto3 and HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from gandt_labeling.bootstrap import bootstrap
from gandt_labeling.settings import Settings

from gandt.adapters.local_files import LocalFiles
from gandt.adapters.memory_objects import MemoryObjects
from gandt.adapters.s3 import S3Objects
from gandt.domain.errors import InvalidInput, NotFound
from gandt.ports.object_store import ObjectStore
from gandt.runtime.server import ServerThread

STORES: dict[str, Callable[[Path], ObjectStore]] = {
    "memory": lambda folder: MemoryObjects(),
    "local_files": lambda folder: LocalFiles(folder / "objects"),
}

ODD_KEYS = [
    "a/2026-11-23_16:40:12.json",
    "a#1/x?y=2.json",
    "a%3A/100%.json",
    "../up.json",
    "./here/../there",
    "two//slashes",
    "/leading",
    "trailing/",
    "ü/日本/🙂 x.jpg",
    'q"uo*te<s>|\\',
]


BUCKETS = ("bucket", "second", "b")


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    settings = Settings(port=0, metrics_port=None, drain_seconds=1, data_dir=tmp_path_factory.mktemp("labeling"))
    thread = ServerThread([bootstrap(settings)], settings)
    client = boto3.client(
        "s3",
        endpoint_url=thread.start()["labeling"].service + "/s3",
        region_name="local-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}, proxies={}),
    )
    yield S3Objects(client)
    client.close()
    thread.stop()


@pytest.fixture(params=[*sorted(STORES), "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param in STORES:
        return STORES[request.param](tmp_path)
    shared: ObjectStore = request.getfixturevalue("s3")
    for bucket in BUCKETS:
        for info in shared.list(f"s3://{bucket}"):
            shared.delete(info.uri)
    return shared


def test_put_then_get_head_and_list(store: ObjectStore) -> None:
    before = datetime.now(UTC)
    info = store.put("s3://bucket/a/b.txt", b"hello", "text/plain")
    assert store.get("s3://bucket/a/b.txt") == b"hello"
    assert (info.uri, info.size) == ("s3://bucket/a/b.txt", 5)
    assert info.etag
    assert abs(info.modified_at - before) < timedelta(minutes=1)
    assert store.head("s3://bucket/a/b.txt") == info
    (listed,) = store.list("s3://bucket/")
    assert replace(listed, modified_at=info.modified_at) == info
    assert abs(listed.modified_at - info.modified_at) < timedelta(seconds=1)  # S3 gives whole seconds to a head
    assert listed.modified_at.tzinfo is info.modified_at.tzinfo is UTC


def test_put_replaces_and_changes_the_etag(store: ObjectStore) -> None:
    first = store.put("s3://bucket/key", b"one")
    second = store.put("s3://bucket/key", b"two")
    assert store.get("s3://bucket/key") == b"two"
    assert first.etag != second.etag
    assert len(list(store.list("s3://bucket"))) == 1


def test_a_stream_reads_and_seeks_and_keeps_what_it_opened(store: ObjectStore) -> None:
    data = bytes(range(256)) * 12_000  # 3 MB: more than any store reads at once
    store.put("s3://bucket/large.bin", data)
    with store.open("s3://bucket/large.bin") as stream:
        store.put("s3://bucket/large.bin", b"new")
        assert stream.read(3) == data[:3]
        assert stream.seek(-5, 2) == len(data) - 5
        assert stream.read() == data[-5:]
    with pytest.raises(NotFound):
        store.open("s3://bucket/none")


def test_an_empty_object_is_an_object(store: ObjectStore) -> None:
    assert store.put("s3://bucket/empty", b"").size == 0
    assert store.get("s3://bucket/empty") == b""


def test_what_is_not_there(store: ObjectStore) -> None:
    with pytest.raises(NotFound) as caught:
        store.get("s3://bucket/none")
    assert (caught.value.kind, caught.value.id) == ("object", "s3://bucket/none")
    assert store.head("s3://bucket/none") is None
    store.delete("s3://bucket/none")
    store.put("s3://bucket/folder/object", b"x")
    assert store.head("s3://bucket/folder") is None
    with pytest.raises(NotFound):
        store.get("s3://bucket/folder")
    store.delete("s3://bucket/folder")
    assert store.get("s3://bucket/folder/object") == b"x"
    assert list(store.list("s3://bucket/other")) == []


def test_delete(store: ObjectStore) -> None:
    store.put("s3://bucket/a/b/c", b"1")
    store.put("s3://bucket/a/d", b"2")
    store.delete("s3://bucket/a/b/c")
    assert [info.uri for info in store.list("s3://bucket/")] == ["s3://bucket/a/d"]
    store.put("s3://bucket/a/b", b"3")  # the emptied folder is no obstacle
    assert store.get("s3://bucket/a/b") == b"3"


def test_list_is_a_text_prefix_ordered_by_key_bytes(store: ObjectStore) -> None:
    keys = ["job/b.json", "job/a/z.json", "job/a.json", "job-2/a.json", "job/é.json", "job/A.json", "other/x"]
    for key in keys:
        store.put(f"s3://bucket/{key}", key.encode())
    store.put("s3://second/job/a.json", b"")
    assert [info.uri for info in store.list("s3://bucket/job")] == [
        f"s3://bucket/{key}"
        for key in ["job-2/a.json", "job/A.json", "job/a.json", "job/a/z.json", "job/b.json", "job/é.json"]
    ]
    assert [info.uri for info in store.list("s3://bucket/job/a/")] == ["s3://bucket/job/a/z.json"]
    assert len(list(store.list("s3://bucket"))) == len(keys)


@pytest.mark.parametrize("key", ODD_KEYS)
def test_odd_keys_come_back_as_they_were(store: ObjectStore, key: str) -> None:
    uri = f"s3://bucket/{key}"
    store.put(uri, key.encode())
    assert store.get(uri) == key.encode()
    assert [info.uri for info in store.list("s3://bucket/")] == [uri]
    assert [info.uri for info in store.list(uri)] == [uri]


def test_odd_keys_do_not_meet(store: ObjectStore) -> None:
    for key in ODD_KEYS:
        store.put(f"s3://bucket/{key}", key.encode())
    assert {info.uri for info in store.list("s3://bucket/")} == {f"s3://bucket/{key}" for key in ODD_KEYS}
    assert all(store.get(f"s3://bucket/{key}") == key.encode() for key in ODD_KEYS)


@pytest.mark.parametrize(
    "uri", ["", "bucket/key", "https://bucket/key", "s3://", "s3:///key", "s3://bucket", "s3://b/"]
)
def test_what_is_no_object_uri(store: ObjectStore, uri: str) -> None:
    for call in (store.get, store.head, store.delete):
        with pytest.raises(InvalidInput):
            call(uri)
    with pytest.raises(InvalidInput):
        store.put(uri, b"")
