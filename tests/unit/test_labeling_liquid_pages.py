# SPDX-License-Identifier: GPL-3.0-or-later
"""Worker pages: our grid, Ground Truth's filters, and templates or data that mean harm."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import pytest
from gandt_labeling.liquid_pages import LiquidPages, own_copies, render
from gandt_labeling.service.ports import FrameRequest

from gandt.domain.errors import InvalidInput

GRID = files("gandt_labeling").joinpath("templates/grid.liquid.html").read_text()
TILES: list[dict[str, Any]] = [
    {
        "event_names": ["Kid's & other", '</script><script>alert("1")</script>'],
        "positive_examples": ["s3://b/yes.jpg"],
        "negative_examples": ["javascript:alert(1)"],
        "other_category_label": "None of the above",
        "multi_label": False,
        "source-ref": "s3://b/a#1.jpg",
        "index": 0,
        "thumbnail-ref": "s3://b/thumb.jpg",
    },
    {"source-ref": "s3://b/2.jpg", "index": 50},
]


def sign(uri: str) -> str:
    return "https://portal/media/" + uri.removeprefix("s3://").replace("#", "%23")


def page(template: str, data: Any = None) -> str:
    return render(template, {"taskObject": TILES} if data is None else data, sign)


def frame(template: str, data: Any = None) -> str:
    request = FrameRequest(template, {"taskObject": TILES} if data is None else data, "lease-1", "http://p:1", sign)
    return LiquidPages().render(request, "NONCE")


def test_the_grid_shows_what_the_manifest_says() -> None:
    LiquidPages().check(GRID)
    text = frame(GRID)
    assert text.startswith("<!doctype html>")
    for index in (0, 50):
        for name in ("labels", "state", "ms"):
            assert text.count(f'name="{name}-{index}"') == 1
    assert 'src="https://portal/media/b/thumb.jpg"' in text
    assert 'data-full="https://portal/media/b/a%231.jpg"' in text
    assert text.count('data-label-index="other"') == 2
    assert text.count('data-label-index="1"') == 2
    assert 'data-multi="no"' in text
    assert 'alt="photo 2 of 2"' in text
    labels = re.search(r"data-labels='([^']*)'", text)
    assert labels is not None
    assert json.loads(html.unescape(labels.group(1))) == TILES[0]["event_names"]
    assert "javascript:" not in text
    assert '<script>alert("1")' not in text


def test_the_grid_shows_the_instructions_as_text() -> None:
    told = "Look at the beak.\n<b>Owls</b> have none & no teeth."
    text = frame(GRID, {"taskObject": [{**TILES[0], "instructions": told}, TILES[1]]})
    assert f'<p class="told">{html.escape(told)}</p>' in text
    assert "white-space: pre-line" in text
    assert 'class="told"' not in frame(GRID)


def test_the_grid_needs_only_what_the_original_wrote() -> None:
    text = frame(GRID, {"taskObject": [{"source-ref": "s3://b/1.jpg", "index": 0}]})
    assert 'data-multi="yes"' in text
    assert "data-other='null'" in text
    assert frame(GRID, {"taskObject": []}).count("<section") == 0


def test_nothing_comes_from_another_host() -> None:
    text = frame(GRID)
    assert set(re.findall(r"https?://[^/\"' ]+", text)) == {"https://portal", "http://p:1"}
    assert 'src="http://p:1/static/crowd-elements.js"' in text
    foreign = (
        '<script src="https://code.jquery.com/jquery-3.3.1.slim.min.js"\n integrity="sha384-x" crossorigin="anonymous">'
        '</script><link rel="stylesheet" href="https://stackpath.bootstrapcdn.com/bootstrap/4.3.1/css/bootstrap.min.css">'
        "<crowd-form></crowd-form>"
    )
    text = frame(foreign)
    assert "integrity" not in text
    for name in ("jquery-lite.js", "bootstrap-lite.css", "crowd-elements.js"):
        assert f"http://p:1/static/{name}" in text


def test_only_the_templates_own_scripts_get_the_nonce() -> None:
    template = '<SCRIPT type="module">1</SCRIPT>{{ task.input.evil | skip_autoescape }}<crowd-form></crowd-form>'
    text = frame(template, {"evil": "<script>bad()</script>"})
    assert '<script nonce="NONCE" type="module">' in text
    assert "<script>bad()" in text
    assert text.count("NONCE") == 2  # the template's, and the shim's
    assert own_copies("<scripted>", "/s/", "N") == "<scripted>"


def test_lease_and_portal_travel_escaped() -> None:
    request = FrameRequest("<crowd-form></crowd-form>", {}, '"><script>', "http://p:1", sign)
    text = LiquidPages().render(request, "N")
    assert '<meta name="gandt-lease" content="&quot;&gt;&lt;script&gt;">' in text


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ task.input.taskObject.first.event_names.first }}", "Kid&#39;s &amp; other"),
        ("{{ task.input.taskObject | size }}{{ task.input.taskObject.size }}", "22"),
        ("{% for t in task.input.taskObject %}{{ forloop.index }}{{ t.source-ref }};{% endfor %}", None),
        ("{{ task.input.taskObject.first.source-ref | grant_read_access }}", "https://portal/media/b/a%231.jpg"),
        ("{{ 'javascript:alert(1)' | grant_read_access }}{{ task.none | grant_read_access }}", ""),
        ("{{ 3 | grant_read_access }}", ""),
        ("{{ '<b>' | skip_autoescape }}{{ task.none | skip_autoescape }}", "<b>"),
        ("{{ '&lt;b&gt;<' | escape_once }}", "&lt;b&gt;&lt;"),
        ("{{ task.input.taskObject.last | to_json | skip_autoescape }}", '{"source-ref": "s3://b/2.jpg", "index": 50}'),
        ("{{ task.none | to_json }}", "null"),
        ("{{ task.input.__class__ }}{{ task.input.items }}{{ task.__init__ }}", ""),
    ],
)  # fmt: skip
def test_filters_of_ground_truth(template: str, expected: str | None) -> None:
    text = page(template)
    assert text == (expected if expected is not None else "1s3://b/a#1.jpg;2s3://b/2.jpg;")


def test_json_for_a_script_cannot_end_it() -> None:
    text = page("{{ task.input | to_json | skip_autoescape }}", {"a": "</script>\u2028&"})
    assert text == '{"a": "\\u003c/script\\u003e\\u2028\\u0026"}'
    assert json.loads(text) == {"a": "</script>\u2028&"}


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in (1..100000000) %}x{% endfor %}",
        "{% for i in (1..2000) %}{% for j in (1..2000) %}x{% endfor %}{% endfor %}",
        "{% assign a = 'x' %}{% for i in (1..60) %}{% assign a = a | append: a %}{% endfor %}",
        "{% capture a %}{% for i in (1..10000) %}" + "y" * 500 + "{% endfor %}{% endcapture %}",
        "{% for i in (1..10000) %}" + "y" * 500 + "{% endfor %}",
        "{{ (1..1000000000) | join }}",
        "{{ (1..1000000000) | reverse | size }}",
        "{% assign a = '" + "a" * 10_000 + "' %}{{ a | replace: 'a', a }}",
        "{{ (1..20000) | join: '" + "a" * 1000 + "' }}",
        "{{ 'now' | date: '%1000000000Y' }}",
        "{{ 'now' | date: '%_999999999d' }}",
        "{% assign a = 10 %}{% for i in (1..40) %}{% assign a = a | times: a %}{% endfor %}{{ a }}",
    ],
)
def test_templates_without_end_are_stopped(template: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        page(template)
    assert caught.value.reason in {"TEMPLATE_LIMIT", "TEMPLATE_INVALID"}


def test_time_is_limited() -> None:
    ticks = iter(range(0, 100_000, 1))
    clock: Callable[[], float] = lambda: next(ticks)  # noqa: E731
    with pytest.raises(InvalidInput, match="took more than") as caught:
        render("{% for i in (1..1000) %}{{ i | plus: 1 }}{% endfor %}", {}, sign, clock)
    assert caught.value.reason == "TEMPLATE_LIMIT"


@pytest.mark.parametrize(
    "template",
    [
        "{% for %}",
        "{% if a %}",
        "{% include 'x' %}",
        "{% render 'x' %}",
        "{{ 'a' | no_such_filter }}",
        "{{ 'a' | safe }}",
        "{{ 1 | divided_by: 0 }}",
        "{{ 'x' | date }}",
        "{% if 'a' < 1 %}{% endif %}",
        "{{",
    ],
)
def test_what_cannot_be_rendered_is_a_domain_error(template: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        page("line one\n" + template)
    assert caught.value.field == "template"


def test_check_names_the_line_and_wants_a_form() -> None:
    pages = LiquidPages()
    with pytest.raises(InvalidInput, match="line 3 ") as caught:
        pages.check("a\nb\n{% nonsense %}\n<crowd-form></crowd-form>")
    assert caught.value.reason == "TEMPLATE_INVALID"
    with pytest.raises(InvalidInput) as caught:
        pages.check("<p>hello</p>")
    assert caught.value.reason == "TEMPLATE_WITHOUT_FORM"
    with pytest.raises(InvalidInput) as caught:
        pages.check("<crowd-form></crowd-form>" + " " * 128_000)
    assert caught.value.reason == "TEMPLATE_TOO_LONG"
