# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows in and out of CSV, JSONL and Parquet files, chosen by suffix; `-` is stdin or stdout.

Readers stream and know the line of every row, so that an error can name it. Writers write a
temporary file beside the target and rename it, so that a reader never sees half a table.
"""

from __future__ import annotations

import csv
import difflib
import itertools
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from gandt.domain.errors import GandtError, InvalidInput, NotFound

SUFFIXES = (".csv", ".jsonl", ".parquet")
PARQUET_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class Row:
    """One row with the line it came from (the header of a CSV is line 1).

    Attributes:
        where: `file, line N`, for error messages.
        values: cell by column; text from CSV, JSON values from JSONL and Parquet.
    """

    where: str
    values: Mapping[str, Any]

    def text(self, column: str, default: str = "") -> str:
        """The cell as text; `default` when absent or null. Lists become `a|b`."""
        value = self.values.get(column)
        if value is None:
            return default
        if isinstance(value, list | tuple):
            return "|".join(str(part) for part in value)
        return str(value)

    def required(self, column: str) -> str:
        """The cell as text; InvalidInput when it is absent or empty."""
        value = self.text(column).strip()
        if not value:
            raise InvalidInput(f"{self.where}: column {column!r} is empty", field=column, reason="EMPTY_CELL")
        return value

    def number(self, column: str, default: float) -> float:
        """The cell as a finite number; `default` when absent or empty."""
        cell = self.text(column).strip()
        if not cell:
            return default
        try:
            value = float(cell)
        except ValueError:
            value = float("nan")
        if value != value or value in (float("inf"), float("-inf")):
            raise InvalidInput(f"{self.where}: {column} is {cell!r}, not a number", field=column, reason="BAD_NUMBER")
        return value


def file_format(path: str) -> str:
    """`csv`, `jsonl` or `parquet` by suffix.

    Raises:
        InvalidInput: another suffix.
    """
    suffix = Path(path).suffix.lower()
    if path == "-":
        return "csv"
    if suffix not in SUFFIXES:
        raise InvalidInput(
            f"{path} is not a table that gandt knows", reason="UNKNOWN_FORMAT", fix=f"use one of {', '.join(SUFFIXES)}"
        )
    return suffix[1:]


def read_rows(path: str, required: Sequence[str], aliases: Mapping[str, str] | None = None) -> Iterator[Row]:
    """The rows of a table, streamed.

    Args:
        path: file, or `-` for stdin (CSV, or JSONL when it begins with a brace).
        required: columns that must be there (after renaming).
        aliases: column names to read under another name (`{"task": "image"}`), where the other name is not there.
    Raises:
        NotFound: no such file.
        InvalidInput: a column is missing, or a row is broken; names file and line.
    """
    aliases = aliases or {}
    name = "stdin" if path == "-" else path
    kind = file_format(path)
    if kind == "parquet":
        yield from _parquet_rows(path, required, aliases)
        return
    try:
        with _open_text(path) as stream:
            head = stream.readline()
            if path == "-" and head.lstrip().startswith("{"):
                kind = "jsonl"
            lines = itertools.chain([head] if head else [], stream)
            rows = _jsonl_rows(lines, name, aliases) if kind == "jsonl" else _csv_rows(lines, name, aliases)
            yield from _checked(rows, name, required)
    except UnicodeDecodeError as e:
        raise InvalidInput(f"{name} is not UTF-8 text: {e.reason}", reason="NOT_UTF8", fix="save it as UTF-8") from e


@contextmanager
def _open_text(path: str) -> Iterator[IO[str]]:
    if path == "-":
        yield sys.stdin
        return
    try:
        stream = Path(path).open(encoding="utf-8-sig", newline="")  # noqa: SIM115  closed below; opening alone fails
    except FileNotFoundError as e:
        raise NotFound(f"there is no file {path}", kind="file", id=path, reason="FILE_NOT_FOUND") from e
    except OSError as e:
        raise InvalidInput(f"{path} cannot be read: {e.strerror}", reason="FILE_UNREADABLE") from e
    with stream:
        yield stream


def _csv_rows(lines: Iterable[str], name: str, aliases: Mapping[str, str]) -> Iterator[Row]:
    reader = csv.reader(lines, strict=True)
    try:
        header = [cell.strip() for cell in next(reader)]
    except StopIteration:
        raise InvalidInput(f"{name} is empty; a header line is needed", reason="EMPTY_TABLE") from None
    except csv.Error as e:
        raise InvalidInput(f"{name}, line 1: {e}", reason="BAD_ROW") from e
    columns = _renamed(header, aliases)
    yield Row(name, dict.fromkeys(columns))  # the header, for the check of columns
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as e:
            raise InvalidInput(f"{name}, line {line}: {e}", reason="BAD_ROW") from e
        if not cells:
            continue
        if len(cells) != len(columns):
            raise InvalidInput(
                f"{name}, line {line}: {len(cells)} cells, but the header has {len(columns)} columns", reason="BAD_ROW"
            )
        yield Row(f"{name}, line {line}", dict(zip(columns, cells, strict=True)))


def _jsonl_rows(lines: Iterable[str], name: str, aliases: Mapping[str, str]) -> Iterator[Row]:
    first = True
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except json.JSONDecodeError as e:
            raise InvalidInput(f"{name}, line {number}: not JSON ({e.msg})", reason="BAD_ROW") from e
        if not isinstance(values, dict):
            raise InvalidInput(f"{name}, line {number}: not a JSON object", reason="BAD_ROW")
        keys = _renamed(list(values), aliases)
        row = Row(f"{name}, line {number}", dict(zip(keys, values.values(), strict=True)))
        if first:
            yield Row(name, dict.fromkeys(keys))
            first = False
        yield row


def _parquet_rows(path: str, required: Sequence[str], aliases: Mapping[str, str]) -> Iterator[Row]:
    table = open_parquet(path)
    columns = _renamed(list(table.schema_arrow.names), aliases)
    check_columns(columns, path, required)
    number = 0
    for batch in table.iter_batches(batch_size=PARQUET_ROWS):
        for values in batch.to_pylist():
            number += 1
            yield Row(f"{path}, row {number}", dict(zip(columns, values.values(), strict=True)))


def _renamed(columns: Sequence[str], aliases: Mapping[str, str]) -> list[str]:
    return [aliases[c] if c in aliases and aliases[c] not in columns else c for c in columns]


def _checked(rows: Iterator[Row], name: str, required: Sequence[str]) -> Iterator[Row]:
    header = next(rows, None)
    if header is None:
        return  # an empty JSONL file has no rows and no columns
    check_columns(list(header.values), name, required)
    yield from rows


def check_columns(columns: Sequence[str], name: str, required: Sequence[str]) -> None:
    """Raise InvalidInput for the first required column that is not there, naming the nearest one."""
    for column in required:
        if column in columns:
            continue
        near = difflib.get_close_matches(column, columns, 1, 0.6)
        hint = f"did you mean {near[0]!r}? rename it to {column!r}" if near else f"add a column {column!r}"
        for sign, name_of_it in ((";", "semicolons"), ("\t", "tabs")):
            if len(columns) == 1 and sign in columns[0]:
                hint = f"its cells are separated by {name_of_it}; save it with commas"
        raise InvalidInput(
            f"{name} has no column {column!r}; its columns are {', '.join(columns) or 'none'}",
            field=column,
            reason="COLUMN_MISSING",
            fix=hint,
        )


def open_parquet(path: str) -> Any:
    """A pyarrow ParquetFile; a domain error when it is not there or not Parquet."""
    pq = _pyarrow_parquet()
    try:
        return pq.ParquetFile(path)
    except FileNotFoundError as e:
        raise NotFound(f"there is no file {path}", kind="file", id=path, reason="FILE_NOT_FOUND") from e
    except (OSError, ValueError) as e:
        raise InvalidInput(f"{path} is not a readable Parquet file: {e}", reason="BAD_PARQUET") from e


def _pyarrow_parquet() -> Any:
    try:
        import pyarrow.parquet as pq
    except ImportError as e:
        raise InvalidInput(
            "Parquet files need pyarrow", reason="EXTRA_MISSING", fix="pip install 'gandt[standalone]'"
        ) from e
    return pq


@contextmanager
def replacing(path: str) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well.

    A link stays a link: what it leads to is replaced. A device or a pipe is written to as it is.

    Raises:
        GandtError: the folder cannot be written to, or the disk is full; names the path.
    """
    target = Path(path)
    if target.exists() and not target.is_file() and not target.is_dir():
        yield target
        return
    target = target.resolve()
    scratch = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield scratch
        with scratch.open("rb") as f:
            os.fsync(f.fileno())
        scratch.replace(target)
    except OSError as e:
        raise GandtError(
            f"{path} cannot be written: {e.strerror or e}",
            reason="CANNOT_WRITE",
            fix="choose another place with -o, or free the disk",
        ) from e
    finally:
        scratch.unlink(missing_ok=True)


def write_rows(path: str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> int:
    """Writes a table with exactly these columns and returns the number of rows.

    Cells that are None become empty (CSV) or null. Sequences become `a|b` in CSV and Parquet, lists in JSONL.
    """
    kind = file_format(path)
    write = {"csv": _write_csv, "jsonl": _write_jsonl, "parquet": _write_parquet}[kind]
    if path == "-":
        count = write(sys.stdout, columns, rows)
        sys.stdout.flush()
        return count
    with replacing(path) as scratch:
        if kind == "parquet":
            return _write_parquet(scratch, columns, rows)
        with scratch.open("w", encoding="utf-8", newline="") as stream:
            return write(stream, columns, rows)


def _cell(value: Any) -> Any:
    if isinstance(value, float) and value != value:
        return ""
    if isinstance(value, list | tuple):
        return "|".join(str(part) for part in value)
    return "" if value is None else value


def _write_csv(stream: Any, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> int:
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    count = 0
    for row in rows:
        writer.writerow([_cell(row.get(c)) for c in columns])
        count += 1
    return count


def _write_jsonl(stream: Any, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> int:
    count = 0
    for row in rows:
        values = {c: row.get(c) for c in columns}
        clean = {c: None if isinstance(v, float) and v != v else v for c, v in values.items()}
        stream.write(json.dumps(clean, ensure_ascii=False) + "\n")
        count += 1
    return count


def _write_parquet(target: Any, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> int:
    import pyarrow as pa

    pq = _pyarrow_parquet()
    count, writer = 0, None
    iterator = iter(rows)
    while chunk := [{c: _parquet_cell(r.get(c)) for c in columns} for r in itertools.islice(iterator, PARQUET_ROWS)]:
        table = pa.Table.from_pylist(chunk, schema=writer.schema if writer else None)
        writer = writer or pq.ParquetWriter(target, table.schema)
        writer.write_table(table)
        count += len(chunk)
    if writer is None:
        writer = pq.ParquetWriter(target, pa.schema([(c, pa.string()) for c in columns]))
    writer.close()
    return count


def _parquet_cell(value: Any) -> Any:
    return "|".join(str(part) for part in value) if isinstance(value, list | tuple) else value
