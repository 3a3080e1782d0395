# SPDX-License-Identifier: GPL-3.0-or-later
"""One stream of images: a thread reads and submits them, the caller takes results in the order of completion."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator

from gandt.domain.embedding import EmbedResult, ImageInput, StreamItems, StreamOpen
from gandt.domain.errors import DeadlineExceeded, GandtError, InvalidInput
from gandt.ports.clock import Deadline

_MESSAGE_BYTES = 512 * 1024  # of vectors in one message: half of what it may hold
_RECHECK_SECONDS = 0.5


class Stream:
    """Reads ahead at most `window` images of what was taken. It is the Sink of its images.

    Args:
        requests: the client's messages after the opening.
        submit: starts the image of a sequence; may wait.
        window: images under way, or finished and not taken.
        row_bytes: size of a result, for messages of a fair size.
        reading: when its check raises, no more is read, and the stream ends with that error once all that was read
            has its result.
    """

    def __init__(
        self,
        requests: Iterator[StreamOpen | StreamItems],
        submit: Callable[[ImageInput, int], None],
        window: int,
        row_bytes: int,
        reading: Deadline,
    ) -> None:
        self._requests = requests
        self._submit = submit
        self._reading = reading
        self._free = threading.Semaphore(window)
        self._message_rows = max(1, min(window, _MESSAGE_BYTES // max(1, row_bytes)))
        self._done: queue.SimpleQueue[list[EmbedResult] | GandtError | None] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._first = 0
        self._next = 0  # the sequence that the next image must have
        self._reader = threading.Thread(target=self._read, name="embedding-stream", daemon=True)

    def deliver(self, results: list[EmbedResult]) -> None:
        """See `Sink`."""
        self._done.put(results)

    def results(self, deadline: Deadline) -> Iterator[tuple[list[EmbedResult], int]]:
        """Results as they become ready, with the contiguous ack; ends when every image has one.

        Raises:
            GandtError: what is wrong with the stream itself; the results before it have been yielded.
        """
        self._reader.start()
        finished: set[int] = set()
        given, ack, ended = 0, None, False
        failure: GandtError | None = None
        while not ended or given < self._next - self._first:
            ready: list[EmbedResult] = []
            for event in self._take(deadline, given):
                if isinstance(event, list):
                    ready += event
                else:
                    ended, failure = True, event
            for start in range(0, len(ready), self._message_rows):
                batch = ready[start : start + self._message_rows]
                given += len(batch)
                ack = self._first if ack is None else ack
                finished.update(result.sequence for result in batch)
                while ack in finished:
                    finished.remove(ack)
                    ack += 1
                yield batch, ack
                self._free.release(len(batch))
        if failure is not None:
            raise failure

    def stop(self) -> None:
        """Ends the reader, which may wait for the client until the call is over."""
        self._stopped.set()
        self._free.release()

    def _take(self, deadline: Deadline, given: int) -> list[list[EmbedResult] | GandtError | None]:
        """What is ready; waits for the first."""
        while True:
            deadline.check()
            try:
                events = [self._done.get(timeout=_RECHECK_SECONDS)]
            except queue.Empty:
                if given == self._next - self._first:
                    self._reading.check()  # the reader may wait for a client that sends nothing
                continue
            while not self._done.empty():
                events.append(self._done.get_nowait())
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
            self._reading.check()
            self._submit(image, self._next)
            self._next += 1
