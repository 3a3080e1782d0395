# SPDX-License-Identifier: GPL-3.0-or-later
"""A person labels in a real browser: from the invite link to the output manifest, from one origin only."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.browser.people import TILES, WAIT, Labeling, Person

pytestmark = pytest.mark.browser


def test_a_person_labels_two_pages_and_the_answers_land_in_the_manifest(person: Callable[..., Person]) -> None:
    anna = person(pages=2)
    for _ in range(2):
        for tile in range(TILES):
            anna.pick(tile, "cat" if tile % 2 == 0 else "dog")
        before = anna.page.get_attribute("#frame", "src")
        anna.submit()
        anna.page.wait_for_function(
            "before => document.body.dataset.state !== 'loading'"
            " && document.querySelector('#frame').getAttribute('src') !== before",
            arg=before,
        )
    anna.wait_for("done")
    assert "All done" in anna.page.inner_text("#notice")
    anna.labeling.wait_for("Completed")
    lines = anna.labeling.manifest()
    assert len(lines) == 2
    workers = set()
    for number, line in enumerate(lines):
        (response,) = line["labels"]["responses"]
        workers.add(response["workerId"])
        given = {key: json.loads(value) for key, value in response["annotation"].items() if key.startswith("labels-")}
        expected = {f"labels-{number * TILES + tile}": ["cat" if tile % 2 == 0 else "dog"] for tile in range(TILES)}
        assert given == expected
    assert len(workers) == 1
    assert anna.origins == {urlsplit(anna.labeling.url).netloc}
    assert anna.problems == []


def test_photos_show_and_the_frame_is_opaque(person: Callable[..., Person]) -> None:
    anna = person()
    frame = anna.page.frames[1]
    frame.wait_for_function(
        "() => [...document.images].slice(0, 4).every(image => image.naturalWidth > 0)", timeout=WAIT
    )
    assert frame.evaluate("window.origin") == "null"
    denied = "(() => { try { return parent.document.title } catch (error) { return error.name } })()"
    assert frame.evaluate(denied) == "SecurityError"
    assert "invite" not in anna.page.url, "the link does not stay in the address bar"


def test_a_reload_keeps_what_was_picked(person: Callable[..., Person]) -> None:
    anna = person()
    anna.pick(0, "dog")
    anna.pick(1, "Other")
    anna.page.wait_for_function("() => Object.keys(localStorage).some(key => key.startsWith('gandt.draft.'))")
    anna.page.reload()
    anna.wait_for("working")
    pressed = anna.frame.locator("button[aria-pressed=true]")
    pressed.nth(1).wait_for(timeout=WAIT)
    assert [re.sub(r"\W|\d", "", text) for text in pressed.all_inner_texts()] == ["dog", "Other"]


def test_a_lost_connection_loses_no_answer(person: Callable[..., Person]) -> None:
    anna = person()
    for tile in range(TILES):
        anna.pick(tile, "cat")
    anna.page.context.set_offline(True)
    anna.submit()
    anna.page.wait_for_selector("#banner:not([hidden])")
    assert "kept on this device" in anna.page.inner_text("#banner")
    anna.page.context.set_offline(False)
    anna.wait_for("done")
    anna.labeling.wait_for("Completed")
    assert len(anna.labeling.manifest()[0]["labels"]["responses"]) == 1


def test_a_closed_tab_sends_its_answer_when_it_comes_back(person: Callable[..., Person]) -> None:
    anna = person()
    for tile in range(TILES):
        anna.pick(tile, "cat")
    context = anna.page.context
    context.set_offline(True)
    anna.submit()
    anna.page.wait_for_selector("#banner:not([hidden])")
    anna.page.close()
    context.set_offline(False)
    page = context.new_page()
    page.goto(f"{anna.labeling.url}/work")
    page.wait_for_selector("body[data-state=done]", timeout=WAIT)
    anna.labeling.wait_for("Completed")
    assert "labels" in anna.labeling.manifest()[0]


def test_declining_asks_first_and_gives_the_next_page(person: Callable[..., Person]) -> None:
    anna = person(pages=2)
    first = anna.page.get_attribute("#frame", "src")
    anna.page.click("#decline")
    anna.page.click("dialog button[value=no]")
    assert anna.page.get_attribute("#frame", "src") == first
    anna.page.click("#decline")
    anna.page.click("dialog button[value=yes]")
    anna.page.wait_for_function(
        "first => (document.querySelector('#frame').getAttribute('src') || first) !== first", arg=first
    )


def test_a_wrong_invite_says_what_to_do(chromium: Any, labeling: Callable[..., Labeling]) -> None:
    made = labeling()
    context = chromium.new_context()
    page = context.new_page()
    page.goto(f"{made.url}/work?invite=wrong")
    page.wait_for_selector("body[data-state=stopped]", timeout=WAIT)
    assert "open your invite link again" in page.inner_text("#notice")
    context.close()
