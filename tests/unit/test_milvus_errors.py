# SPDX-License-Identifier: GPL-3.0-or-later
"""What a disk's errors become, raised here or told by Milvus Lite."""

from __future__ import annotations

import errno
import os

import pytest
from pymilvus.exceptions import MilvusException

from gandt.adapters.milvus_errors import translated
from gandt.domain.errors import BackendUnavailable, WrongState


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.ENOSPC, "DISK_FULL"), (errno.EDQUOT, "DISK_FULL"), (errno.EROFS, "DISK_READ_ONLY")],
)
@pytest.mark.parametrize("told", [False, True])
def test_a_disk_that_takes_no_more_is_no_outage(number: int, reason: str, told: bool) -> None:
    error: Exception = OSError(number, os.strerror(number))
    if told:
        error = MilvusException(message=f"[Errno {number}] Error writing bytes. Detail: {os.strerror(number)}")
    with (
        pytest.raises(WrongState, match=r"/data/milvus\.db cannot be written") as caught,
        translated("write to collection c", "/data/milvus.db", "milvus-lite"),
    ):
        raise error
    assert caught.value.reason == reason
    assert caught.value.fix


def test_another_error_of_the_system_is_an_outage() -> None:
    with pytest.raises(BackendUnavailable, match="Connection refused"), translated("connect", "host", "milvus"):
        raise OSError(errno.ECONNREFUSED, "Connection refused")
