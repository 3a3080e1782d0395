# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalog's rows: images, files, vectors' flags, near-duplicate groups and labels known beforehand."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, func, select, update

from gandt.adapters.sql_jobs_engine import SqlStore
from gandt.adapters.sql_jobs_schema import facts, files, folders, images, known_labels, near_groups, rounds, vectors
from gandt.domain.catalog import CatalogFile, CatalogImage, KnownLabel, LabelKind
from gandt.domain.images import ImageRef

CHUNK = 500  # ids in one IN list; SQLite takes 32,766 parameters, older builds 999
COLLECTION = "collection"


class CatalogRows(SqlStore):
    """Images by content and what is known of them."""

    def fact(self, name: str) -> str:
        """A single remembered value; "" when there is none."""
        with self.read() as connection:
            return connection.scalar(select(facts.c.value).where(facts.c.name == name)) or ""

    def set_fact(self, name: str, value: str) -> None:
        """Remember a single value."""
        row = self.insert(facts).values(name=name, value=value)
        with self.write() as connection:
            connection.execute(row.on_conflict_do_update(index_elements=["name"], set_={"value": value}))

    def known_files(self, uris: Sequence[str]) -> dict[str, CatalogFile]:
        """Files that were read before, by URI."""
        found: dict[str, CatalogFile] = {}
        with self.read() as connection:
            for chunk in _chunks(uris):
                for row in connection.execute(select(files).where(files.c.uri.in_(chunk))):
                    found[row.uri] = CatalogFile(row.uri, row.size, row.etag, row.image_id)
        return found

    def record_files(self, new_images: Sequence[CatalogImage], read: Sequence[CatalogFile]) -> int:
        """Store images and files in one transaction; returns the images that were new."""
        columns = ("image_id", "width", "height", "format", "size", "thumbnail_uri")
        image_rows = [{name: getattr(image, name) for name in columns} for image in new_images]
        file_rows = [
            {"uri": f.uri, "name": f.uri.rsplit("/", 1)[-1], "image_id": f.image_id, "size": f.size, "etag": f.etag}
            for f in read
        ]
        count = select(func.count()).select_from(images)
        with self.write() as connection:
            before = connection.execute(count).scalar_one()
            if image_rows:
                connection.execute(self.insert(images).on_conflict_do_nothing(), image_rows)
            if file_rows:
                row = self.insert(files)
                changed = {name: row.excluded[name] for name in ("image_id", "size", "etag")}
                connection.execute(row.on_conflict_do_update(index_elements=["uri"], set_=changed), file_rows)
            return int(connection.execute(count).scalar_one() - before)

    def add_folder(self, uri: str) -> None:
        """Remember an imported folder; relative paths are looked up below it first."""
        with self.write() as connection:
            connection.execute(self.insert(folders).values(uri=uri).on_conflict_do_nothing())

    def list_folders(self) -> list[str]:
        """The folders that were imported."""
        with self.read() as connection:
            return list(connection.scalars(select(folders.c.uri).order_by(folders.c.uri)))

    def known_images(self, image_ids: Sequence[str]) -> set[str]:
        """Which of these ids are in the catalog."""
        found: set[str] = set()
        with self.read() as connection:
            for chunk in _chunks(image_ids):
                found.update(connection.scalars(select(images.c.image_id).where(images.c.image_id.in_(chunk))))
        return found

    def resolve_images(self, names: Sequence[str]) -> list[tuple[str, ...]]:
        """Image ids that each name may mean: by id, by URI, below an imported folder, by the end of the path.

        The first of these rules that finds anything decides; more than one id means that the name is ambiguous.
        """
        ids = self.known_images(names)
        with self.read() as connection:
            roots = list(connection.scalars(select(folders.c.uri).order_by(folders.c.uri)))
            by_name: dict[str, list[tuple[str, str]]] = {}
            for chunk in _chunks(sorted({name.rsplit("/", 1)[-1] for name in names})):
                query = select(files.c.name, files.c.uri, files.c.image_id).where(files.c.name.in_(chunk))
                for name, uri, image_id in connection.execute(query):
                    by_name.setdefault(name, []).append((uri, image_id))
        return [(name,) if name in ids else _candidates(name, by_name, roots) for name in names]

    def count_images(self) -> int:
        """Images in the catalog."""
        with self.read() as connection:
            return connection.scalar(select(func.count()).select_from(images)) or 0

    def list_images(self, after_id: str, limit: int) -> list[CatalogImage]:
        """Images by id, after an id."""
        query = select(images).where(images.c.image_id > after_id).order_by(images.c.image_id).limit(limit)
        with self.read() as connection:
            return _with_uris(connection, list(connection.execute(query)))

    def get_images(self, image_ids: Sequence[str]) -> dict[str, CatalogImage]:
        """Images by id; unknown ids are left out."""
        found: dict[str, CatalogImage] = {}
        with self.read() as connection:
            for chunk in _chunks(image_ids):
                rows = list(connection.execute(select(images).where(images.c.image_id.in_(chunk))))
                found.update((image.image_id, image) for image in _with_uris(connection, rows))
        return found

    def count_unembedded(self, collection: str) -> int:
        """Images of the catalog without a vector in a collection."""
        query = select(func.count()).select_from(images).where(~_has_vector(collection))
        with self.read() as connection:
            return connection.scalar(query) or 0

    def unembedded(self, collection: str, after_id: str, limit: int) -> list[ImageRef]:
        """Images without a vector in a collection, by id, each with one of its places."""
        uri = select(func.min(files.c.uri)).where(files.c.image_id == images.c.image_id).scalar_subquery()
        query = (
            select(images.c.image_id, uri.label("uri"))
            .where(images.c.image_id > after_id, ~_has_vector(collection))
            .order_by(images.c.image_id)
            .limit(limit)
        )
        with self.read() as connection:
            return [ImageRef(row.image_id, row.uri or "") for row in connection.execute(query)]

    def mark_embedded(self, collection: str, image_ids: Sequence[str]) -> None:
        """Record that the vectors of these images are stored in a collection, and when an image first had one."""
        rows = [{"collection": collection, "image_id": image_id} for image_id in image_ids]
        if rows:
            with self.write() as connection:
                connection.execute(self.insert(vectors).on_conflict_do_nothing(), rows)
                before = connection.scalar(select(func.count()).select_from(rounds)) or 0
                for chunk in _chunks(image_ids):
                    new = images.c.image_id.in_(chunk) & images.c.arrived.is_(None)
                    connection.execute(update(images).where(new).values(arrived=before))

    def unmark_embedded(self, collection: str) -> None:
        """Forget which vectors a collection has (it was deleted elsewhere)."""
        with self.write() as connection:
            connection.execute(delete(vectors).where(vectors.c.collection == collection))

    def near_groups(self, collection: str, generation: int) -> dict[str, str] | None:
        """Near-duplicate group by image, as found at that generation; None when it was not looked up then."""
        with self.read() as connection:
            seen = connection.scalar(select(facts.c.value).where(facts.c.name == f"near-groups:{collection}"))
            if seen != str(generation):
                return None
            query = select(near_groups.c.image_id, near_groups.c.group_id).where(near_groups.c.collection == collection)
            return {row.image_id: row.group_id for row in connection.execute(query)}

    def set_near_groups(self, collection: str, generation: int, groups: Mapping[str, str]) -> None:
        """Replace a collection's near-duplicate groups; images on their own are not listed."""
        name, value = f"near-groups:{collection}", str(generation)
        with self.write() as connection:
            connection.execute(delete(near_groups).where(near_groups.c.collection == collection))
            rows = [
                {"collection": collection, "generation": generation, "image_id": image_id, "group_id": group_id}
                for image_id, group_id in groups.items()
            ]
            if rows:
                connection.execute(near_groups.insert(), rows)
            fact = self.insert(facts).values(name=name, value=value)
            connection.execute(fact.on_conflict_do_update(index_elements=["name"], set_={"value": value}))

    def known_labels(self, kind: LabelKind) -> list[KnownLabel]:
        """All labels of a kind, by image."""
        query = select(known_labels).where(known_labels.c.kind == kind.value).order_by(known_labels.c.image_id)
        with self.read() as connection:
            return [KnownLabel(row.image_id, tuple(json.loads(row.labels))) for row in connection.execute(query)]

    def put_known_labels(self, kind: LabelKind, labels: Iterable[KnownLabel]) -> int:
        """Store labels of a kind, one set an image; returns how many were new or changed."""
        wanted = {label.image_id: json.dumps(label.labels, ensure_ascii=False) for label in labels}
        with self.write() as connection:
            for chunk in _chunks(list(wanted)):
                query = select(known_labels.c.image_id, known_labels.c.labels).where(
                    known_labels.c.kind == kind.value, known_labels.c.image_id.in_(chunk)
                )
                for image_id, text in connection.execute(query):
                    if wanted[image_id] == text:
                        del wanted[image_id]
            rows = [{"kind": kind.value, "image_id": i, "labels": text} for i, text in wanted.items()]
            if rows:
                row = self.insert(known_labels)
                changed = row.on_conflict_do_update(
                    index_elements=["kind", "image_id"], set_={"labels": row.excluded.labels}
                )
                connection.execute(changed, rows)
        return len(rows)


def _chunks(values: Iterable[str]) -> Iterator[tuple[str, ...]]:
    rest = iter(values)
    while chunk := tuple(islice(rest, CHUNK)):
        yield chunk


def _has_vector(collection: str) -> ColumnElement[bool]:
    return (
        select(vectors.c.image_id)
        .where(vectors.c.collection == collection, vectors.c.image_id == images.c.image_id)
        .exists()
    )


def _with_uris(connection: Connection, rows: Sequence[Row[Any]]) -> list[CatalogImage]:
    uris: dict[str, list[str]] = {}
    ids = [row.image_id for row in rows]
    flagged: set[str] = set()
    collection = connection.scalar(select(facts.c.value).where(facts.c.name == COLLECTION)) or ""
    for chunk in _chunks(ids):
        query = select(files.c.image_id, files.c.uri).where(files.c.image_id.in_(chunk)).order_by(files.c.uri)
        for image_id, uri in connection.execute(query):
            uris.setdefault(image_id, []).append(uri)
        here = (vectors.c.collection == collection) & vectors.c.image_id.in_(chunk)
        flagged.update(connection.scalars(select(vectors.c.image_id).where(here)))
    return [
        CatalogImage(
            image_id=row.image_id,
            width=row.width,
            height=row.height,
            format=row.format,
            size=row.size,
            thumbnail_uri=row.thumbnail_uri,
            uris=tuple(uris.get(row.image_id, ())),
            embedded=row.image_id in flagged,
        )
        for row in rows
    ]


def _candidates(name: str, by_name: Mapping[str, Sequence[tuple[str, str]]], roots: Sequence[str]) -> tuple[str, ...]:
    files_there = by_name.get(name.rsplit("/", 1)[-1], ())
    relative = name.removeprefix("./").lstrip("/")
    below = {f"{root.rstrip('/')}/{relative}" for root in roots}
    for matches in (
        {image_id for uri, image_id in files_there if uri == name},
        {image_id for uri, image_id in files_there if uri in below},
        {image_id for uri, image_id in files_there if uri.endswith("/" + relative)},
    ):
        if matches:
            return tuple(sorted(matches))
    return ()
