# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator asks of the labeling service over HTTP: invitations for workers."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

from gandt.domain.errors import BackendUnavailable, Unauthenticated

TIMEOUT_SECONDS = 10.0


def create_invite(portal_url: str, token: str, name: str = "") -> tuple[str, str]:
    """Makes an invitation.

    Args:
        portal_url: `http://host:port` of the labeling service.
        token: the operator's token.
        name: whom it is for, which gives the same pseudonym each time; "" makes the team's link.
    Returns:
        The invitation's code, and the link to send.
    Raises:
        Unauthenticated: the token is wrong.
        BackendUnavailable: the service does not answer.
    """
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    body = json.dumps({"name": name}).encode()
    request = urllib.request.Request(f"{portal_url}/api/invites", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            made = json.load(answer)
    except urllib.error.HTTPError as e:
        with e:
            if e.code in (401, 403):
                raise Unauthenticated(
                    f"the labeling service at {portal_url} refuses the operator's token",
                    fix="use the token in .gandt/labeling.token of the project that runs it",
                ) from e
            raise BackendUnavailable(f"the labeling service answered {e.code}", backend="labeling") from e
    except (OSError, ValueError) as e:
        raise BackendUnavailable(
            f"the labeling service at {portal_url} does not answer: {e}", backend="labeling", fix="start gandt serve"
        ) from e
    return str(made["invite"]), str(made["url"])
