# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables in and out: every format carries the same rows, and every mistake names its place."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gandt.domain.datasets import Answer, AnswerState, LabeledImage
from gandt.domain.errors import GandtError, InvalidInput, NotFound, WrongState
from gandt.domain.vectors import VectorSet
from gandt.tables.answers import read_answers, write_answers
from gandt.tables.files import read_rows, write_rows
from gandt.tables.labels import read_gold, read_images, read_labeled, write_labeled
from gandt.tables.vectors import VectorsWriter, iter_vectors, read_vectors, write_vectors

FORMATS = ("csv", "jsonl", "parquet")


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("suffix", FORMATS)
def test_answers_come_back_equal(tmp_path: Path, suffix: str) -> None:
    answers = [
        Answer("a.jpg", "w1", ("cat",), job="j", page="0", answered_at=datetime(2026, 1, 2, tzinfo=UTC), seconds=1.5),
        Answer('b, "quoted".jpg', "w2", ("cat", "dog")),
        Answer("c\n.jpg", "w1", (), AnswerState.UNSURE),
    ]
    path = str(tmp_path / f"answers.{suffix}")
    assert write_answers(path, answers) == 3
    assert list(read_answers(path)) == answers


@pytest.mark.parametrize("suffix", FORMATS)
def test_labeled_images_come_back_equal(tmp_path: Path, suffix: str) -> None:
    images = [LabeledImage("a", ("x", "y"), 0.5, "main", 2, 0.25), LabeledImage("b", ("x",))]
    path = str(tmp_path / f"labeled.{suffix}")
    write_labeled(path, images)
    assert read_labeled(path) == images


def test_several_rows_of_one_image_are_one(tmp_path: Path) -> None:
    path = write(tmp_path / "l.csv", "image,label\na,x\nb,y\na,z|x\n")
    assert [(i.image_id, i.labels) for i in read_labeled(path)] == [("a", ("x", "z")), ("b", ("y",))]


def test_an_empty_answer_is_blank_unless_it_means_none_of_these(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "task,worker,label\na,w,\n")
    assert next(read_answers(path)).state == AnswerState.BLANK
    assert next(read_answers(path, multi_label=True)).state == AnswerState.ANSWERED


def test_raw_answers_are_taken_as_they_stand(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "image,worker,label\na,w,x |x\na,v,\n")
    assert [a.labels for a in read_answers(path, raw=True)] == [("x ", "x"), ()]
    assert [a.labels for a in read_answers(path)] == [("x", "x"), ()]


@pytest.mark.parametrize(
    ("text", "reason", "part"),
    [
        ("", "EMPTY_TABLE", "empty"),
        ("image,werker,label\na,w,x\n", "COLUMN_MISSING", "did you mean 'werker'"),
        ("image;worker;label\na;w;x\n", "COLUMN_MISSING", "separated by semicolons; save it with commas"),
        ("image\tworker\tlabel\na\tw\tx\n", "COLUMN_MISSING", "separated by tabs; save it with commas"),
        ("image,worker,label\na,w\n", "BAD_ROW", "line 2"),
        ("image,worker,label\na,w,x\n,w,x\n", "EMPTY_CELL", "line 3"),
        ("image,worker,label,state\na,w,x,maybe\n", "BAD_STATE", "line 2"),
        ("image,worker,label,time\na,w,x,noon\n", "BAD_TIME", "line 2"),
        ("image,worker,label,seconds\na,w,x,much\n", "BAD_NUMBER", "line 2"),
        ('image,worker,label\na,w,"x\n', "BAD_ROW", "line"),
    ],
)
def test_a_broken_table_names_the_place(tmp_path: Path, text: str, reason: str, part: str) -> None:
    path = write(tmp_path / "answers.csv", text)
    with pytest.raises(InvalidInput) as caught:
        list(read_answers(path))
    assert caught.value.reason == reason
    assert path in str(caught.value)
    assert part in f"{caught.value} {caught.value.fix}"


def test_json_lines_name_the_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"image": "a", "worker": "w", "label": ["x", "y"]}\n{"image": \n')
    rows = read_answers(path)
    assert next(rows).labels == ("x", "y")
    with pytest.raises(InvalidInput, match="line 2"):
        next(rows)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no file .*nope\.csv"):
        list(read_answers(str(tmp_path / "nope.csv")))
    (tmp_path / "latin.csv").write_bytes(b"image,worker,label\na,w,\xe9\n")
    with pytest.raises(InvalidInput, match="UTF-8"):
        list(read_answers(str(tmp_path / "latin.csv")))
    with pytest.raises(InvalidInput, match=r"\.csv, \.jsonl, \.parquet"):
        list(read_answers(str(tmp_path / "answers.xlsx")))
    with pytest.raises(GandtError, match="cannot be written"):
        write_rows(str(tmp_path / "no" / "folder.csv"), ("a",), [{"a": 1}])


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "old")

    def rows() -> object:
        yield {"a": 1}
        raise InvalidInput("broken in the middle")

    with pytest.raises(InvalidInput):
        write_rows(path, ("a",), rows())  # type: ignore[arg-type]
    assert Path(path).read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]


def test_standard_input_may_be_csv_or_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('{"image": "a", "label": "x"}\n'))
    assert read_gold("-") == {"a": ("x",)}
    monkeypatch.setattr("sys.stdin", io.StringIO("image,label\na,x\n"))
    assert read_gold("-") == {"a": ("x",)}


def test_gold_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="line 3"):
        read_gold(write(tmp_path / "g.csv", "image,label\na,x\na,y\n"))


def test_images_by_either_column(tmp_path: Path) -> None:
    assert read_images(write(tmp_path / "i.csv", "uri\ns3://b/1\n")) == ["s3://b/1"]
    assert read_images(write(tmp_path / "j.csv", "image,label\n1.jpg,x\n")) == ["1.jpg"]
    with pytest.raises(InvalidInput, match="no column 'image'"):
        read_images(write(tmp_path / "k.csv", "file\n1.jpg\n"))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_vectors_come_back_equal(tmp_path: Path, dtype: type[np.floating[Any]]) -> None:
    matrix: NDArray[np.floating[Any]] = np.random.default_rng(0).normal(size=(10, 4)).astype(dtype)
    path = str(tmp_path / "v.parquet")
    write_vectors(path, VectorSet([f"i{n}" for n in range(10)], matrix, "net-1"))
    back = read_vectors(path)
    assert (list(back.ids), back.model_id, back.matrix.dtype) == (
        [f"i{n}" for n in range(10)],
        "net-1",
        np.dtype(dtype),
    )
    assert np.array_equal(back.matrix, matrix)
    assert [len(b) for b in iter_vectors(path, 4)] == [4, 4, 2]


def test_vectors_from_numpy_archives(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", images=np.array(["a", "b"]), vectors=np.eye(2, dtype=np.float16))
    assert read_vectors(str(tmp_path / "v.npz")).dim == 2


def test_broken_vectors_are_refused(tmp_path: Path) -> None:
    twice = VectorSet(["a", "a"], np.eye(2, dtype=np.float32))
    write_vectors(str(tmp_path / "twice.parquet"), twice)
    with pytest.raises(InvalidInput, match="more than one vector"):
        read_vectors(str(tmp_path / "twice.parquet"))
    (tmp_path / "no.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InvalidInput, match="not a readable Parquet"):
        read_vectors(str(tmp_path / "no.parquet"))
    (tmp_path / "parts").mkdir()
    write_vectors(str(tmp_path / "parts" / "0.parquet"), VectorSet(["a"], np.ones((1, 2), np.float32), "m1"))
    write_vectors(str(tmp_path / "parts" / "1.parquet"), VectorSet(["b"], np.ones((1, 2), np.float32), "m2"))
    with pytest.raises(WrongState, match="another model"):
        read_vectors(str(tmp_path / "parts"))


def test_a_failed_vectors_writer_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> None:
        with VectorsWriter(str(tmp_path / "v.parquet"), 2, "m") as writer:
            writer.write(["a"], np.ones((1, 2), np.float32))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()
    assert list(tmp_path.iterdir()) == []


@given(st.lists(st.tuples(st.text(min_size=1).map(str.strip).filter(bool), st.text()), max_size=20))
def test_any_text_survives_a_csv(tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str, str]]) -> None:
    clean = [(a, b) for a, b in cells if "\x00" not in a + b and "\r" not in a + b]
    path = tmp_path_factory.mktemp("t") / "t.csv"
    try:
        write_rows(str(path), ("image", "label"), ({"image": a, "label": b} for a, b in clean))
    except UnicodeEncodeError:
        return
    assert [(r.text("image"), r.text("label")) for r in read_rows(str(path), ("image", "label"))] == clean
