# SPDX-License-Identifier: GPL-3.0-or-later
"""What makes workers fast and safe: keys of their own, one photo at a time, phones, drafts, the next page at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.browser.people import WAIT, Person

pytestmark = pytest.mark.browser

PHONE = {"viewport": {"width": 320, "height": 640}, "has_touch": True, "is_mobile": True}
TOO_SMALL = """() => [...document.querySelectorAll('button, summary, crowd-button, input[type=checkbox], a')]
  .filter(e => e.checkVisibility() && !e.closest('dialog:not([open])'))
  .map(e => [e.outerHTML.slice(0, 80), (e.closest('label') || e).getBoundingClientRect()])
  .filter(([_, box]) => box.width && (box.width < 44 || box.height < 43.5))
  .map(([text, box]) => `${text} ${box.width} x ${box.height}`)"""


def labels(anna: Person) -> dict[int, list[str]]:
    """What the job's output says of each tile."""
    anna.labeling.wait_for("Completed")
    found: dict[int, list[str]] = {}
    for line in anna.labeling.manifest():
        (response,) = line["labels"]["responses"]
        for key, value in response["annotation"].items():
            if key.startswith("labels-"):
                found[int(key.removeprefix("labels-"))] = json.loads(value)
    return found


def test_twenty_photos_with_twenty_one_key_presses(person: Callable[..., Person]) -> None:
    anna = person(tiles=20, multi=False)
    anna.frame.locator(".tile.current").wait_for()
    anna.press(*["1" if tile % 2 else "2" for tile in range(20)], "Enter")
    anna.wait_for("done")
    assert labels(anna) == {tile: ["cat" if tile % 2 else "dog"] for tile in range(20)}
    assert anna.origins == {urlsplit(anna.labeling.url).netloc}
    assert anna.problems == []


def test_several_labels_by_digits_and_space_goes_on(person: Callable[..., Person]) -> None:
    anna = person(tiles=3, multi=True)
    anna.frame.locator(".tile.current").wait_for()
    anna.press("1", "2", "Space", "2", "1", "1", "Space", "0", "Enter")
    anna.wait_for("done")
    assert labels(anna) == {0: ["cat", "dog"], 1: ["dog"], 2: ["Other"]}


def test_twenty_photos_with_twenty_one_taps_on_a_phone(person: Callable[..., Person]) -> None:
    anna = person(window=PHONE, tiles=20, multi=False)
    assert anna.frame.locator("html").evaluate("e => e.scrollWidth - e.clientWidth") <= 0
    assert anna.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    assert anna.page.frames[1].evaluate(TOO_SMALL) == []
    assert anna.page.evaluate(TOO_SMALL) == []
    for tile in range(20):  # each tap brings the next photo: what is tapped is in view, nothing has to be scrolled
        button = anna.frame.locator(".tile.current").get_by_role("button", name="dog" if tile % 2 else "cat")
        button.tap()
    anna.frame.locator("#submit").tap()
    anna.wait_for("done")
    assert labels(anna) == {tile: ["dog" if tile % 2 else "cat"] for tile in range(20)}


def test_one_photo_at_a_time(person: Callable[..., Person]) -> None:
    anna = person(tiles=4, multi=False, pages=2)
    anna.frame.locator(".tile.current").wait_for()
    anna.press("f")
    visible = anna.frame.locator(".tile:visible")
    assert visible.count() == 1
    assert visible.get_attribute("data-index") in ("0", "4")
    first = int(visible.get_attribute("data-index"))
    anna.press("1", "2")
    anna.frame.locator(".tile:visible").get_by_role("button", name="dog").click()  # a click goes on here, too
    assert visible.get_attribute("data-index") == str(first + 3)
    anna.frame.locator("#back").click()
    assert visible.get_attribute("data-index") == str(first + 2)
    anna.press("ArrowRight", "0", "Enter")
    anna.page.wait_for_function("() => document.querySelector('#progress-text').textContent.startsWith('Page 2')")
    anna.frame.locator("body.focus-mode").wait_for()  # the choice is remembered on the next page
    anna.press("2", "2", "2", "2", "Enter")
    anna.wait_for("done")
    found = labels(anna)
    assert [found[first + tile] for tile in range(4)] == [["cat"], ["dog"], ["dog"], ["Other"]]
    answers = [line["labels"]["responses"][0]["annotation"] for line in anna.labeling.manifest()]
    assert {json.loads(answer["meta"])["mode"] for answer in answers} == {"focus"}


def test_keys_of_ones_own_stay(person: Callable[..., Person]) -> None:
    anna = person(tiles=2, multi=False, pages=2)
    anna.frame.locator(".tile.current").wait_for()
    anna.press("?")
    keys = anna.frame.locator(".key-list")
    keys.get_by_role("button", name="key of: cat").click()
    anna.press("2")
    assert anna.frame.locator(".learning").inner_text() == "2 is the key of: dog"
    keys.get_by_role("button", name="key of: cat").click()
    anna.press("j", "Escape")
    anna.press("1", "j", "2", "Enter")  # 1 is nobody's key now
    anna.page.wait_for_function("() => document.querySelector('#progress-text').textContent.startsWith('Page 2')")
    anna.page.reload()
    anna.wait_for("working")
    anna.frame.locator(".tile.current kbd", has_text="j").first.wait_for()
    anna.press("j", "j", "Enter")
    anna.wait_for("done")
    assert sorted(labels(anna).values()) == [["cat"], ["cat"], ["cat"], ["dog"]]


def test_instructions_fold_away_once_they_are_read(person: Callable[..., Person]) -> None:
    anna = person(
        tiles=1,
        multi=False,
        pages=2,
        instructions="Cats only from the front.",
        positive_examples=["s3://gandt/photos/0.png"],
        negative_examples=["s3://gandt/photos/1.png"],
    )
    box = anna.frame.locator("#instructions")
    assert box.get_attribute("open") is not None
    assert "Cats only from the front." in box.inner_text()
    assert box.locator("img").count() == 2
    anna.press("1", "Enter")
    anna.page.wait_for_function("() => document.querySelector('#progress-text').textContent.startsWith('Page 2')")
    anna.frame.locator("#instructions:not([open])").wait_for(state="attached")
    anna.press("i")
    assert box.get_attribute("open") is not None


def test_the_next_page_is_there_before_it_is_needed(person: Callable[..., Person]) -> None:
    anna = person(tiles=2, multi=False, pages=3)
    anna.page.wait_for_selector("#ahead[src^='/frame/ahead/']", state="attached")
    ahead = anna.page.frames[-1]
    ahead.wait_for_function("() => document.images.length && [...document.images].every(image => image.complete)")
    anna.page.wait_for_load_state("networkidle")
    asked = len(anna.paths)
    anna.press("1", "1", "Enter")
    anna.page.wait_for_function("() => document.querySelector('#progress-text').textContent.startsWith('Page 2')")
    anna.wait_for("working")
    path = [each for each in anna.paths[asked:] if each.startswith("GET /frame/")]
    assert all(each.startswith("GET /frame/ahead/") for each in path), "the second page came from the unseen frame"
    anna.press("2", "2", "Enter")
    anna.page.wait_for_function("() => document.querySelector('#progress-text').textContent.startsWith('Page 3')")
    anna.press("2", "1", "Enter")
    anna.wait_for("done")
    assert len(labels(anna)) == 6
    assert anna.problems == []


def test_own_pace_and_progress_are_shown(person: Callable[..., Person]) -> None:
    anna = person(tiles=2, multi=False, pages=3)
    assert anna.page.inner_text("#progress-text") == "Page 1 · about 2 more"
    anna.press("1", "1", "Enter")
    anna.page.wait_for_function("() => document.querySelector('#progress-text').textContent.startsWith('Page 2')")
    told = anna.page.inner_text("#progress-text")
    assert "s a photo" in told
    assert "min left" in told
    assert "2 photos today" in told


def test_a_restart_of_the_service_in_the_middle_loses_nothing(person: Callable[..., Person]) -> None:
    anna = person(tiles=4, multi=False)
    anna.frame.locator(".tile.current").wait_for()
    anna.press("1", "2")
    anna.page.wait_for_function("() => Object.keys(localStorage).some(key => key.startsWith('gandt.draft.'))")
    anna.labeling.stop()
    anna.press("1", "2", "Enter")
    anna.page.wait_for_selector("#banner:not([hidden])")
    anna.labeling.start()
    anna.wait_for("done")
    assert labels(anna) == {0: ["cat"], 1: ["dog"], 2: ["cat"], 3: ["dog"]}


def test_a_restart_and_a_reload_bring_the_draft_back_from_the_service(person: Callable[..., Person]) -> None:
    anna = person(tiles=3, multi=False)
    anna.frame.locator(".tile.current").wait_for()
    with anna.page.expect_response(lambda response: response.url.endswith("/draft"), timeout=WAIT):
        anna.press("1", "2")
    anna.labeling.stop()
    anna.labeling.start()
    anna.page.evaluate(
        "Object.keys(localStorage).filter(k => k.includes('draft')).forEach(k => localStorage.removeItem(k))"
    )
    anna.page.reload()
    anna.wait_for("working")
    anna.frame.locator("#progress", has_text="2 of 3 done").wait_for()


def test_active_time_is_kept_for_each_photo(person: Callable[..., Person]) -> None:
    anna = person(tiles=2, multi=False)
    anna.frame.locator(".tile.current").wait_for()
    anna.page.wait_for_timeout(300)
    anna.press("1", "2", "Enter")
    anna.wait_for("done")
    anna.labeling.wait_for("Completed")
    answer: dict[str, Any] = anna.labeling.manifest()[0]["labels"]["responses"][0]["annotation"]
    assert int(answer["ms-0"]) >= 300
    assert 0 <= int(answer["ms-1"]) < 60_000
