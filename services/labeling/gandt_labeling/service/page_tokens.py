# SPDX-License-Identifier: GPL-3.0-or-later
"""Page tokens of the SageMaker list calls: signed, and tied to the filter that they continue."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from gandt.domain.errors import InvalidInput, Unauthenticated
from gandt_labeling.service.spec import Json
from gandt_labeling.service.tokens import Tokens


def fingerprint(request: Mapping[str, Any]) -> str:
    """What a token is tied to: the request without its place and its size."""
    filters = {key: value for key, value in request.items() if key not in ("NextToken", "MaxResults")}
    return hashlib.sha256(json.dumps(filters, sort_keys=True).encode()).hexdigest()[:16]


def open_page(tokens: Tokens, token: str, mark: str) -> Json:
    """The claims of a token that was made for the filter `mark`.

    Raises:
        InvalidInput: it was not made here, or belongs to another filter.
    """
    try:
        claims = tokens.open("page token", token, 0.0)
    except Unauthenticated as error:
        raise InvalidInput("NextToken was not made here; start again without it", field="NextToken") from error
    if claims["f"] != mark:
        raise InvalidInput("NextToken belongs to another filter; start again without it", field="NextToken")
    return claims
