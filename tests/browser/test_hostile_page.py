# SPDX-License-Identifier: GPL-3.0-or-later
"""A customer's template, or what strangers put into its data, reaches neither the portal nor another worker."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.browser.people import Person

pytestmark = pytest.mark.browser

FORM = '<script src="https://assets.crowd.aws/crowd-html-elements.js"></script><crowd-form>{}</crowd-form>'
SPY = FORM.format(
    """<input name="found" id="found"><script>
    const tried = {};
    const attempt = (name, what) => {
      try { tried[name] = String(what()); } catch (error) { tried[name] = error.name; }
    };
    attempt("cookie", () => document.cookie);
    attempt("storage", () => localStorage.length);
    attempt("portal", () => parent.document.body.innerHTML);
    attempt("top", () => { top.location = "https://evil.example/"; return "went"; });
    attempt("open", () => String(window.open("https://evil.example/")));
    const web = (name, call) => call().then(() => (tried[name] = "reached"), (error) => (tried[name] = error.name));
    Promise.all([
      web("session", () => fetch("/api/jobs", { credentials: "include" })),
      web("elsewhere", () => fetch("https://evil.example/")),
      new Promise((resolve) => {
        const image = new Image();
        image.onload = image.onerror = (event) => { tried.image = event.type; resolve(); };
        image.src = "https://evil.example/x.png";
      }),
    ]).then(() => {
      document.querySelector("#found").value = JSON.stringify(tried);
      parent.postMessage({ v: 1, type: "submit", lease: "somebody-elses-lease", answer: { a: 1 } }, "*");
      setTimeout(() => document.querySelector("crowd-form").requestSubmit(), 300);
    });
    </script>"""
)


def answer_of(anna: Person) -> dict[str, Any]:
    anna.wait_for("done")
    anna.labeling.wait_for("Completed")
    (response,) = anna.labeling.manifest()[0]["labels"]["responses"]
    return dict(response["annotation"])


def alive(anna: Person) -> bool:
    with urllib.request.urlopen(anna.labeling.url + "/readyz", timeout=5) as reply:
        return bool(reply.status == 200)


def test_a_template_sees_nothing_of_the_portal_and_reaches_nobody(person: Callable[..., Person]) -> None:
    anna = person(template=SPY, tiles=1, state="done")
    tried = json.loads(answer_of(anna)["found"])
    assert tried["cookie"] == "SecurityError"
    assert tried["storage"] == "SecurityError"
    assert tried["portal"] == "SecurityError"
    assert tried["top"] != "went" or urlsplit(anna.page.url).path == "/work"
    assert tried["open"] in ("null", "SecurityError")
    assert tried["session"] == "TypeError"
    assert tried["elsewhere"] == "TypeError"
    assert tried["image"] == "error"
    assert anna.page.url.endswith("/work")


def test_a_frame_without_its_workers_session_shows_nothing(person: Callable[..., Person]) -> None:
    anna = person(tiles=1)
    other = person(at=anna.labeling, state="waiting")
    frame = anna.page.get_attribute("#frame", "src")
    reply = other.page.context.request.get(anna.labeling.url + frame)
    assert reply.status == 404
    assert "taskObject" not in reply.text()


@pytest.mark.parametrize(
    "label",
    [
        "<script>window.hacked = 1</script>",
        "\"><img src=x onerror='window.hacked = 1'>",
        "{{ 'x' | upcase }}",
        "</crowd-form>",
    ],
)
def test_labels_are_shown_as_what_they_are(person: Callable[..., Person], label: str) -> None:
    anna = person(tiles=1, names=(label, "dog"), multi=False, instructions=label)
    button = anna.frame.locator('[data-label-index="0"]')
    assert label in button.inner_text()
    assert anna.page.frames[1].evaluate("window.hacked") is None
    anna.press("1", "Enter")
    assert json.loads(answer_of(anna)["labels-0"]) == [label]


def test_a_javascript_address_runs_nowhere(person: Callable[..., Person]) -> None:
    address = "javascript:parent.postMessage({v:1,type:'submit',answer:{hacked:1}},'*')"
    template = FORM.format('<a id="go" href="{{ task.input.taskObject.first.bad }}">x</a><input name="a" value="good">')
    anna = person(template=template, tiles=1, bad=address)
    anna.frame.locator("#go").click()
    anna.submit()
    assert answer_of(anna) == {"a": "good"}


def test_a_page_that_never_ends_stops_neither_the_service_nor_other_workers(person: Callable[..., Person]) -> None:
    endless = FORM.format('<input name="a" value="b"><script>if (document.title === "Task") for (;;) {}</script>')
    anna = person(template=endless, tiles=1, state="")
    anna.page.wait_for_selector("#frame[src]", state="attached")
    assert alive(anna)
    bert = person(at=anna.labeling, state="waiting")  # the one page is anna's
    assert "Nothing for you right now" in bert.page.inner_text("#notice")
    with anna.page.expect_response(lambda response: response.url.endswith("/return")):
        anna.page.click("#give-back")  # her portal lives beside the page that hangs


@pytest.mark.parametrize(
    "body",
    [
        "{% for a in (1..99999999) %}x{% endfor %}",
        "{% assign a = 'xxxxxxxxxx' %}{% for i in (1..40) %}{% assign a = a | append: a %}{% endfor %}{{ a }}",
        "{{ task.input.taskObject.first.big }}" * 600,
    ],
    ids=["endless", "doubling", "ten-megabytes"],
)
def test_a_template_that_cannot_be_rendered_shows_a_way_out(person: Callable[..., Person], body: str) -> None:
    anna = person(template=FORM.format(body), tiles=1, state="", big="x" * 19_000)
    anna.frame.get_by_text("This page cannot be shown").wait_for()
    assert alive(anna)
    anna.page.click("#decline")
    anna.page.click("dialog button[value=yes]")
    anna.wait_for("done")
    anna.labeling.wait_for("Completed")
    assert "failure-reason" in anna.labeling.manifest()[0]["labels-metadata"]
