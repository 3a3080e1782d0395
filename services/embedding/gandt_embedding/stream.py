# SPDX-License-Identifier: GPL-3.0-or-later
"""One stream of images: a thread reads and submits them, the caller takes results in the order of completion."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial

from gandt.domain.embedding import ImageInput, StreamItems, StreamOpen
from gandt.domain.errors import DeadlineExceeded, GandtError, InvalidInput
from gandt.ports.clock import Deadline
from gandt_embedding.pipeline import Outcome

Result = tuple[str, int, Future[Outcome]]
"""Image id, sequence, and the finished future."""

_MESSAGE_BYTES = 512 * 1024  # of vectors in one message: half of what it may hold
_RECHECK_SECONDS = 0.5
_STOP_SECONDS = 5.0


class Stream:
    """Reads ahead at most `window` images of what was taken.

    Args:
        requests: the client's messages after the opening.
        submit: starts one image; may wait.
        window: images under way, or finished and not taken.
        row_bytes: size of a result, for messages of a fair size.
    """

    def __init__(
        self,
        requests: Iterator[StreamOpen | StreamItems],
        submit: Callable[[ImageInput], Future[Outcome]],
        window: int,
        row_bytes: int,
    ) -> None:
        self._requests = requests
        self._submit = submit
        self._free = threading.Semaphore(window)
        self._message_rows = max(1, min(window, _MESSAGE_BYTES // max(1, row_bytes)))
        self._done: queue.SimpleQueue[Result | GandtError | None] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._first = 0
        self._next = 0  # the sequence that the next image must have
        self._reader = threading.Thread(target=self._read, name="embedding-stream", daemon=True)

    def results(self, deadline: Deadline) -> Iterator[tuple[list[Result], int]]:
        """Results as they become ready, with the contiguous ack; ends when every image has one.

        Raises:
            GandtError: what is wrong with the stream itself; the results before it have been yielded.
        """
        self._reader.start()
        finished: set[int] = set()
        given, ack, ended = 0, None, False
        failure: GandtError | None = None
        while not ended or given < self._next - self._first:
            batch: list[Result] = []
            for event in self._take(deadline):
                if isinstance(event, tuple):
                    batch.append(event)
                else:
                    ended, failure = True, event
            if not batch:
                continue
            given += len(batch)
            ack = self._first if ack is None else ack
            finished.update(sequence for _, sequence, _ in batch)
            while ack in finished:
                finished.remove(ack)
                ack += 1
            yield batch, ack
            self._free.release(len(batch))
        if failure is not None:
            raise failure

    def stop(self) -> None:
        """Ends the reader."""
        self._stopped.set()
        self._free.release()
        if self._reader.is_alive():
            self._reader.join(_STOP_SECONDS)

    def _take(self, deadline: Deadline) -> list[Result | GandtError | None]:
        """What is ready; waits for the first."""
        while True:
            deadline.check()
            try:
                events = [self._done.get(timeout=_RECHECK_SECONDS)]
            except queue.Empty:
                continue
            while len(events) < self._message_rows:
                try:
                    events.append(self._done.get_nowait())
                except queue.Empty:
                    break
            return events

    def _read(self) -> None:
        end: GandtError | None = DeadlineExceeded("the stream broke off")
        try:
            for message in self._requests:
                self._begin(message)
                if self._stopped.is_set():
                    return
            end = None
        except GandtError as error:
            end = error
        finally:
            self._done.put(end)

    def _begin(self, message: StreamOpen | StreamItems) -> None:
        if isinstance(message, StreamOpen):
            raise InvalidInput("the stream is open already", field="open", reason="STREAM_OPENED_TWICE")
        if self._first == self._next:
            self._first = self._next = message.first_sequence  # a resumed stream begins where the last one ended
        if message.first_sequence != self._next:
            raise InvalidInput(
                f"the stream goes on with sequence {message.first_sequence}, {self._next} is next",
                field="first_sequence",
                reason="SEQUENCE_GAP",
            )
        for image in message.images:
            self._free.acquire()
            if self._stopped.is_set():
                return
            name, sequence = image.image_id, self._next
            self._submit(image).add_done_callback(partial(self._deliver, name, sequence))
            self._next += 1

    def _deliver(self, name: str, sequence: int, future: Future[Outcome]) -> None:
        self._done.put((name, sequence, future))
