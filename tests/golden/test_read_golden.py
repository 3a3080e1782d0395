# SPDX-License-Identifier: GPL-3.0-or-later
"""The original's `read_responses` on captured files: the same rows, or the same error under our own name."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from gandt.domain.errors import InvalidInput
from gandt.domain.labeling.compat import read_responses_compat
from tests.conftest import golden_cases

CASES = [
    param for param in golden_cases("aggregation_compat") if param.values[0] is None or param.values[0]["fn"] == "read"
]


@pytest.mark.golden
@pytest.mark.parametrize("case", CASES)
def test_read_responses(case: dict[str, Any]) -> None:
    path, data = case["input"]["path"], json.dumps(case["input"]["content"]).encode()
    if "error" in case:
        with pytest.raises(InvalidInput) as caught:
            read_responses_compat(path, f"/work/{path}", data)
        assert caught.value.reason == "COMPAT_FAILED"
        assert caught.value.metadata["original"] == case["error"]
    else:
        assert [asdict(row) for row in read_responses_compat(path, f"/work/{path}", data)] == case["output"]
