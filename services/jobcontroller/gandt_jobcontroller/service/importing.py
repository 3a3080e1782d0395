# SPDX-License-Identifier: GPL-3.0-or-later
"""Images into the catalog: each file is read once, by content, and a bad one is refused alone.

Files go through in batches: read and hashed, looked at unless their image is known, then committed together. A batch
that was committed is skipped when the import runs again, so a killed import goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from gandt.domain.catalog import CatalogFile, CatalogImage
from gandt.domain.errors import BackendUnavailable, GandtError, InvalidInput, NotFound, PermissionDenied
from gandt.domain.images import image_id_of
from gandt.domain.labeling.outcomes import ImportReport, ImportSummary, RefusedFile
from gandt.domain.progress import Progress
from gandt.ports.clock import NO_DEADLINE, Deadline
from gandt.ports.image_inspector import ImageInspector
from gandt.ports.job_store import JobStore
from gandt.ports.object_store import ObjectInfo, ObjectStore, SkippedObject
from gandt_jobcontroller.service.places import Places

MAX_IMAGE_BYTES = 40 << 20
BAD_SECTOR = "DISK_ERROR"  # a file's own trouble, where other stores' outages concern all
BATCH_FILES = 64
BATCH_BYTES = 128 << 20  # held in memory at once


@dataclass(slots=True)
class _Batch:
    """What became of a batch's files."""

    images: dict[str, CatalogImage] = field(default_factory=dict)
    files: list[CatalogFile] = field(default_factory=list)
    rejected: list[RefusedFile] = field(default_factory=list)


class ImageImport:
    """Reads images into the catalog.

    Args:
        threads: files read and looked at in parallel.
    """

    def __init__(
        self, store: JobStore, objects: ObjectStore, inspector: ImageInspector, places: Places, threads: int = 2
    ) -> None:
        self._store = store
        self._objects = objects
        self._inspector = inspector
        self._places = places
        self._threads = threads

    def run(self, uris: Sequence[str], deadline: Deadline = NO_DEADLINE) -> Iterator[ImportReport]:
        """Import images and folders (URIs that end in "/").

        Raises:
            InvalidInput: no URI was given.
            NotFound: nothing was found at all.
        """
        if not uris:
            raise InvalidInput("no URI was given", field="uris", reason="NO_IMAGES", fix="name a folder or an image")
        listed, refused = self._list(uris)
        counts = ImportSummary(files=len(refused), rejected=len(refused))
        total = len(listed) + len(refused)
        if not total:
            raise NotFound(
                f"there are no images below {uris[0]}",
                kind="folder",
                id=uris[0],
                reason="NO_IMAGES",
                fix="check the path",
            )
        yield ImportReport(Progress("importing", counts.files, total), counts, tuple(refused))
        with ThreadPoolExecutor(self._threads, "gandt-import") as pool:
            for infos in _batches(listed):
                deadline.check()
                counts, rejected = self._import(infos, counts, pool)
                yield ImportReport(Progress("importing", counts.files, total), counts, tuple(rejected))
        yield ImportReport(Progress("importing", counts.files, total), counts, done=True)

    def _list(self, uris: Sequence[str]) -> tuple[list[ObjectInfo], list[RefusedFile]]:
        found: dict[str, ObjectInfo] = {}
        refused: list[RefusedFile] = []
        for uri in uris:
            if uri.endswith("/"):
                self._store.add_folder(uri)
                skipped: list[SkippedObject] = []
                infos = [info for info in self._objects.list(uri, skipped.append) if not _is_hidden(info.uri, uri)]
                found.update((info.uri, info) for info in infos)
                refused += [RefusedFile(s.uri, s.error) for s in skipped if not _is_hidden(s.uri, uri)]
                continue
            try:
                info = self._objects.head(uri)
            except (PermissionDenied, InvalidInput) as error:
                refused.append(RefusedFile(uri, error))
                continue
            if info is None:
                missing = NotFound(f"{uri} does not exist", kind="object", id=uri, reason="IMAGE_NOT_FOUND")
                refused.append(RefusedFile(uri, missing))
            else:
                found[uri] = info
        return list(found.values()), refused

    def _import(
        self, infos: Sequence[ObjectInfo], counts: ImportSummary, pool: ThreadPoolExecutor
    ) -> tuple[ImportSummary, list[RefusedFile]]:
        before = self._store.known_files([info.uri for info in infos])
        same = [i for i in infos if i.uri in before and _is_same(i, before[i.uri])]
        to_read = [i for i in infos if i.uri not in before or not _is_same(i, before[i.uri])]
        batch = self._read(to_read, pool)
        added = self._store.record_files(list(batch.images.values()), batch.files) if batch.files else 0
        touched = [f for f in batch.files if f.uri in before and before[f.uri].image_id == f.image_id]
        counts = replace(
            counts,
            files=counts.files + len(infos),
            added=counts.added + added,
            unchanged=counts.unchanged + len(same) + len(touched),
            duplicates=counts.duplicates + len(batch.files) - len(touched) - added,
            rejected=counts.rejected + len(batch.rejected),
        )
        return counts, batch.rejected

    def _read(self, infos: Sequence[ObjectInfo], pool: ThreadPoolExecutor) -> _Batch:
        batch = _Batch()
        data: dict[str, bytes] = {}
        ids: dict[str, str] = {}
        for info, got in zip(infos, pool.map(self._get, infos), strict=True):
            if isinstance(got, GandtError):
                batch.rejected.append(RefusedFile(info.uri, got))
                continue
            ids[info.uri] = image_id_of(got)
            data.setdefault(ids[info.uri], got)
        known = self._store.known_images(list(data))
        new = [image_id for image_id in data if image_id not in known]
        looked = dict(zip(new, pool.map(self._look, new, [data[i] for i in new]), strict=True))
        for info in infos:
            if info.uri not in ids:
                continue
            seen = looked.get(ids[info.uri])
            if isinstance(seen, GandtError):
                batch.rejected.append(RefusedFile(info.uri, _about(seen, info.uri)))
                continue
            if seen is not None:
                batch.images[seen.image_id] = seen
            batch.files.append(CatalogFile(info.uri, info.size, info.etag, ids[info.uri]))
        return batch

    def _get(self, info: ObjectInfo) -> bytes | GandtError:
        if info.size > MAX_IMAGE_BYTES:
            return InvalidInput(
                f"{info.uri} has {info.size:,} bytes, at most {MAX_IMAGE_BYTES:,} are allowed",
                field="image",
                reason="IMAGE_TOO_LARGE",
                fix="save it smaller",
            )
        try:
            return self._objects.get(info.uri)
        except (NotFound, PermissionDenied, InvalidInput) as error:
            return error
        except BackendUnavailable as error:
            if error.reason != BAD_SECTOR:
                raise
            return error

    def _look(self, image_id: str, data: bytes) -> CatalogImage | GandtError:
        try:
            seen = self._inspector.inspect(data)
        except InvalidInput as error:
            return error
        thumbnail = self._places.thumbnail(image_id)
        self._objects.put(thumbnail, seen.thumbnail, "image/jpeg")
        return CatalogImage(image_id, seen.width, seen.height, seen.format, len(data), thumbnail)


def _about(error: GandtError, uri: str) -> GandtError:
    """The same error with the file in its sentence."""
    return InvalidInput(f"{uri}: {error.message}", field="image", reason=error.reason, fix=error.fix)


def _is_hidden(uri: str, folder: str) -> bool:
    return any(part.startswith(".") for part in f"{uri}/".removeprefix(folder).split("/"))


def _is_same(info: ObjectInfo, file: CatalogFile) -> bool:
    return (info.size, info.etag) == (file.size, file.etag)


def _batches(infos: Sequence[ObjectInfo]) -> Iterator[list[ObjectInfo]]:
    batch: list[ObjectInfo] = []
    size = 0
    for info in infos:
        if batch and (len(batch) == BATCH_FILES or size + info.size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(info)
        size += info.size
    if batch:
        yield batch
