# SPDX-License-Identifier: GPL-3.0-or-later
"""`gandt vectors export|import` against running services, as a user calls it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from gandt_jobcontroller.remote_peers import RemoteVectors
from gandt_vectorsearch.bootstrap import assemble

from gandt.adapters.memory_vectors import MemoryVectors
from gandt.cli.main import main
from gandt.client.connection import connect
from gandt.client.vectorsearch import VectorSearchClient
from gandt.domain.filters import In
from gandt.domain.search_records import ItemSet, SearchOptions
from gandt.domain.vectors import VectorSet
from gandt.runtime.server import ServerThread
from gandt.tables.vectors import read_vectors, write_vectors

NAME, MODEL = "images_0123456789ab", "hog-0123456789ab"


class Store:
    """A running service with an empty store."""

    def __init__(self, stack: ExitStack) -> None:
        server = stack.enter_context(ServerThread(assemble(MemoryVectors())))
        self.address = server.addresses["vectorsearch"].service
        self.client = VectorSearchClient(stack.enter_context(connect(self.address, service="vectorsearch")))


@pytest.fixture
def stores() -> Iterator[Callable[[], Store]]:
    with ExitStack() as stack:
        yield lambda: Store(stack)


def gandt(store: Store, capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict[str, object], str]:
    code = main(["vectors", *argv, "--endpoint", store.address, "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else {}, err


def filled(store: Store, count: int = 3000, dim: int = 64) -> ItemSet:
    matrix = np.random.default_rng(3).normal(size=(count, dim)).astype(np.float32)
    fields = [{"split": ("train", "test")[n % 2], "n": n} if n % 3 else {} for n in range(count)]
    given = ItemSet(VectorSet([f"i{n:05d}" for n in range(count)], matrix, MODEL), fields)
    store.client.create_collection(NAME, dim, MODEL, alias="images_live")
    store.client.upsert(NAME, given)
    return given


def test_a_restored_store_gives_equal_answers(
    stores: Callable[[], Store], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new, path = stores(), stores(), str(tmp_path / "v.parquet")
    given = filled(old)
    code, summary, _ = gandt(old, capsys, "export", "-o", path)
    assert (code, summary["images"], summary["collection"], summary["fields"]) == (0, 3000, NAME, ["n", "split"])
    for _ in range(2):  # giving it again changes nothing
        code, summary, _ = gandt(new, capsys, "import", path)
        assert (code, summary["images"], summary["refused"], summary["model_id"]) == (0, 3000, 0, MODEL)
    described = new.client.get_collection("images_live")
    assert (described.name, described.dim, described.model_id, described.items) == (NAME, 64, MODEL, 3000)
    options = SearchOptions(k=20, condition=In("split", ("test",)), with_vectors=True, with_fields=True)
    before, after = (s.client.search_vectors("images_live", given.vectors.matrix[:20], options) for s in (old, new))
    assert [hits.hits for hits in after.results] == [hits.hits for hits in before.results]
    for left, right in zip(before.results, after.results, strict=True):
        assert left.vectors is not None
        assert right.vectors is not None
        assert left.vectors.matrix.tobytes() == right.vectors.matrix.tobytes()


def test_an_import_goes_on_where_it_was_cut_off(
    stores: Callable[[], Store], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new, path = stores(), stores(), str(tmp_path / "v.parquet")
    given = filled(old)
    gandt(old, capsys, "export", "-o", path)
    new.client.create_collection(NAME, 64, MODEL)
    half = ItemSet(VectorSet(given.ids[:1000], given.vectors.matrix[:1000], MODEL), given.fields[:1000])
    generation = new.client.upsert(NAME, half).generation
    assert gandt(new, capsys, "import", path)[0] == 0
    described = new.client.get_collection(NAME)
    assert (described.items, described.aliases) == (3000, ("images_live",))
    assert described.generation > generation
    again = gandt(new, capsys, "import", path)
    assert again[0] == 0
    assert new.client.get_collection(NAME).generation == described.generation


def test_an_alias_that_leads_elsewhere_by_now_stays(
    stores: Callable[[], Store], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, path = stores(), str(tmp_path / "v.parquet")
    filled(store, 10)
    gandt(store, capsys, "export", "-o", path)
    store.client.create_collection("images_other", 8, "m2", alias="images_live")
    assert gandt(store, capsys, "import", path)[0] == 0
    assert store.client.get_collection("images_live").name == "images_other"


def test_files_of_other_models_and_sizes_are_refused(
    stores: Callable[[], Store], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, path = stores(), str(tmp_path / "v.parquet")
    filled(store, 10)
    write_vectors(path, VectorSet(["a"], np.ones((1, 64), np.float32), "resnet-1"))
    code, _, err = gandt(store, capsys, "import", path, "--collection", NAME)
    assert (code, "MODEL_MISMATCH" in err) == (1, True)
    code, _, err = gandt(store, capsys, "import", path, "--collection", "new", "--model", "hog-1")
    assert (code, "MODEL_MISMATCH" in err) == (1, True)
    code, _, err = gandt(store, capsys, "import", path)
    assert (code, "NO_COLLECTION" in err) == (2, True)
    write_vectors(path, VectorSet(["a"], np.ones((1, 3), np.float32), MODEL))
    code, _, err = gandt(store, capsys, "import", path, "--collection", "images_live")
    assert (code, "WRONG_DIM" in err) == (1, True)
    code, _, err = gandt(store, capsys, "export", "-o", path, "--model", "hog-1")
    assert (code, "MODEL_MISMATCH" in err) == (1, True)
    assert read_vectors(path).ids == ["a"]  # the file that was there


def test_plain_files_go_into_a_named_collection_and_bad_rows_are_listed(
    stores: Callable[[], Store], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, path = stores(), str(tmp_path / "v.npz")
    np.savez(path, images=np.array(["a", "zero", "b"]), vectors=np.array([[1, 0], [0, 0], [0, 1]], np.float32))
    code, summary, err = gandt(store, capsys, "import", path, "--collection", "mine", "--model", "clip")
    assert (code, summary["images"], summary["refused"]) == (4, 2, 1)
    assert "row 2: the vector of image 'zero' is zero" in err
    assert store.client.get_collection("mine").model_id == "clip"


def test_vectors_of_no_model_make_no_collection(
    stores: Callable[[], Store], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, path = stores(), str(tmp_path / "v.npz")
    np.savez(path, images=np.array(["a", "b"]), vectors=np.eye(2, dtype=np.float32))
    code, _, err = gandt(store, capsys, "import", path, "--collection", "mine")
    assert (code, "NO_MODEL" in err, "--model" in err) == (2, True, True)
    assert store.client.list_collections() == []
    store.client.create_collection("mine", 2, "clip")
    assert gandt(store, capsys, "import", path, "--collection", "mine")[0] == 0


def test_an_export_says_what_it_lacks(
    stores: Callable[[], Store], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, path = stores(), str(tmp_path / "v.parquet")
    assert gandt(store, capsys, "export", "-o", path)[0] == 2  # nothing is there
    store.client.create_collection("one", 2, "m")
    code, _, err = gandt(store, capsys, "export", "-o", path)
    assert (code, "NOTHING_TO_DO" in err) == (3, True)
    store.client.create_collection("two", 2, "m")
    code, _, err = gandt(store, capsys, "export", "-o", path)
    assert (code, "one, two" in err) == (2, True)
    assert gandt(store, capsys, "export")[0] == 2
    assert gandt(store, capsys, "import")[0] == 2
    assert list(tmp_path.iterdir()) == []


def test_an_embedding_job_finds_what_was_imported(
    stores: Callable[[], Store], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new, path = stores(), stores(), str(tmp_path / "v.parquet")
    filled(old, 10)
    gandt(old, capsys, "export", "-o", path)
    gandt(new, capsys, "import", path)
    with connect(new.address, service="vectorsearch") as channel:
        seen_by_the_job = RemoteVectors(channel)
        assert seen_by_the_job.ensure(NAME, 64, MODEL) == 10
        assert seen_by_the_job.stored(NAME, ["i00003", "never imported", "i00001"]) == ["i00001", "i00003"]
