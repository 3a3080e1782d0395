# SPDX-License-Identifier: GPL-3.0-or-later
"""axe-core finds nothing to complain about in the portal, in our page in every mode, and in the dialogs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.browser.people import Person

pytestmark = pytest.mark.browser

AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text()
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


def violations(frame: Any) -> list[str]:
    """What axe finds in one document, WCAG 2.2 A and AA and its best practices."""
    frame.evaluate(AXE)
    # Each document is looked at by itself: between an opaque frame and its portal axe cannot talk.
    found = frame.evaluate("rules => axe.run(document, { ...rules, iframes: false })", RULES)
    assert found["passes"], "axe has looked at something"
    return [f"{each['id']}: {node['html'][:120]}" for each in found["violations"] for node in each["nodes"]]


def both(anna: Person) -> list[str]:
    return violations(anna.page.main_frame) + violations(anna.page.frames[1])


@pytest.mark.parametrize("multi", [True, False])
def test_grid_focus_mode_and_dialogs(person: Callable[..., Person], multi: bool) -> None:
    anna = person(tiles=3, multi=multi, positive_examples=["s3://gandt/photos/0.png"], instructions="Look well.")
    anna.frame.locator(".tile.current").wait_for()
    anna.press("1")
    assert both(anna) == []
    anna.press("?")
    assert both(anna) == []
    anna.press("Escape", "z")
    assert both(anna) == []
    anna.press("Escape", "f")
    assert both(anna) == []
    anna.page.click("#decline")
    assert violations(anna.page.main_frame) == []


def test_a_phone_and_the_end_of_the_work(person: Callable[..., Person]) -> None:
    anna = person(window={"viewport": {"width": 320, "height": 640}}, tiles=1, multi=False)
    anna.frame.locator(".tile.current").wait_for()
    assert both(anna) == []
    anna.press("1", "Enter")
    anna.wait_for("done")
    assert violations(anna.page.main_frame) == []


def test_dark_colors(person: Callable[..., Person]) -> None:
    anna = person(window={"color_scheme": "dark"}, tiles=2, multi=False)
    anna.frame.locator(".tile.current").wait_for()
    assert both(anna) == []
