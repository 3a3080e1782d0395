# SPDX-License-Identifier: GPL-3.0-or-later
"""The grid page and our crowd elements in a real browser: sandboxed frame, the portal's security policy, no network."""

from __future__ import annotations

import io
import json
import mimetypes
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from threading import Thread
from typing import Any

import pytest
from gandt_labeling.liquid_pages import LiquidPages
from gandt_labeling.service.ports import FrameRequest

pytestmark = pytest.mark.browser
PACKAGE = files("gandt_labeling")
GRID = PACKAGE.joinpath("templates/grid.liquid.html").read_text()
PORTAL = """<!doctype html><title>portal</title><script>
window.messages = [];
addEventListener("message", (event) => {
  if (event.source === document.querySelector("iframe").contentWindow) messages.push(event.data);
});
const sent = (type) => messages.filter((message) => message.type === type);
const tell = (message) => document.querySelector("iframe").contentWindow.postMessage({ v: 1, ...message }, "*");
</script><iframe sandbox="allow-scripts allow-forms" src="/frame" style="width:100%;height:95vh;border:0"></iframe>"""


def picture() -> bytes:
    from PIL import Image

    data = io.BytesIO()
    Image.new("RGB", (64, 48), (180, 60, 60)).save(data, "PNG")
    return data.getvalue()


def tiles(count: int, multi: bool, labels: list[str] | None = None) -> list[dict[str, Any]]:
    page: list[dict[str, Any]] = [{"source-ref": f"s3://b/{i}.png", "index": 10 * i} for i in range(count)]
    page[0] |= {
        "event_names": labels or ["cat", "dog", "Kid's & other"],
        "positive_examples": ["s3://b/yes.png"],
        "negative_examples": ["s3://b/no.png"],
        "other_category_label": "None of the above",
        "multi_label": multi,
    }
    return page


class Site:
    """Serves one page as the labeling service does; `open` shows it."""

    def __init__(self, context: Any, address: str) -> None:
        self.context, self.address = context, address
        self.template, self.task = GRID, {"taskObject": tiles(3, False)}
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        self.page: Any = None

    def open(self, template: str | None = None, task: Any = None) -> Any:
        self.template, self.task = template or self.template, task or self.task
        self.page = self.context.new_page()
        self.page.on("request", lambda request: self.hosts.add(request.url.split("/")[2]))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type == "error" else None)
        self.page.goto(self.address)
        self.page.wait_for_function("sent('ready').length > 0")
        return self.page.frame_locator("iframe")

    def sent(self, kind: str) -> list[Any]:
        """Messages of the page so far."""
        return list(self.page.evaluate(f"sent('{kind}')"))

    def answer(self) -> dict[str, Any]:
        """What was submitted, once it is."""
        self.page.wait_for_function("sent('submit').length > 0")
        (message,) = self.sent("submit")
        assert (message["v"], message["lease"]) == (1, "lease-1")
        return dict(message["answer"])


@pytest.fixture
def site(chromium: Any) -> Iterator[Site]:
    pages, image = LiquidPages(), picture()
    context = chromium.new_context(viewport={"width": 1100, "height": 800})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, headers = self.path, {"Content-Type": mimetypes.guess_type(self.path)[0] or "text/html"}
            data: bytes | None = PORTAL.encode()
            if path == "/frame":
                address = place.address
                request = FrameRequest(
                    place.template, place.task, "lease-1", address, lambda uri: address + "/media/" + uri[5:]
                )
                data = pages.render(request, "abc").encode()
                headers["Content-Type"] = "text/html; charset=utf-8"
                headers["Content-Security-Policy"] = (
                    f"sandbox allow-scripts allow-forms; default-src 'none'; script-src {address}/static/ 'nonce-abc'; "
                    f"style-src {address}/static/ 'unsafe-inline'; img-src {address}/media/ data:; connect-src 'none'; "
                    f"form-action 'none'; base-uri 'none'; frame-ancestors {address}"
                )
            elif path.startswith("/static/"):
                data = PACKAGE.joinpath(path.lstrip("/")).read_bytes()
            elif path.startswith("/media/"):
                data = None if "lost" in path else image
            elif path != "/":
                data = None
            self.send_response(404 if data is None else 200)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            self.wfile.write(data or b"")

        def log_message(self, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    place = Site(context, f"http://127.0.0.1:{server.server_address[1]}")
    yield place
    context.close()
    server.shutdown()
    thread.join()
    server.server_close()
    assert place.hosts <= {place.address.removeprefix("http://")}  # nothing left our origin
    assert [text for text in place.complaints if "404" not in text and "favicon" not in text] == []


def test_twenty_photos_with_twenty_one_keys(site: Site) -> None:
    frame = site.open(task={"taskObject": tiles(20, multi=False)})
    keys = [str(1 + i % 4) if i % 4 < 3 else "0" for i in range(20)] + ["Enter"]
    frame.locator(".tile.current").first.wait_for()
    for key in keys:
        site.page.keyboard.press(key)
    answer = site.answer()
    offered = ["cat", "dog", "Kid's & other", "None of the above"]
    assert [json.loads(answer[f"labels-{10 * i}"]) for i in range(20)] == [[offered[i % 4]] for i in range(20)]
    assert {answer[f"state-{10 * i}"] for i in range(20)} == {"answered"}
    assert all(int(answer[f"ms-{10 * i}"]) >= 0 for i in range(20))
    meta = json.loads(answer["meta"])
    assert (meta["page"], meta["input"]["key"], meta["multi"]) == ("grid-2", 20, False)
    assert set(answer) == {f"{name}-{10 * i}" for name in ("labels", "state", "ms") for i in range(20)} | {"meta"}


def test_several_labels_by_mouse_and_other_alone(site: Site) -> None:
    frame = site.open(task={"taskObject": tiles(4, multi=True)})

    def press(tile: int, text: str) -> None:
        frame.locator(f'.tile[data-index="{10 * tile}"] button:not(.photo)', has_text=text).click()

    def pressed(tile: int) -> list[str]:
        found = frame.locator(f'.tile[data-index="{10 * tile}"] .choices [aria-pressed="true"]')
        return [text.split(maxsplit=1)[1] for text in found.all_inner_texts()]

    press(0, "cat")
    press(0, "Kid's & other")
    assert pressed(0) == ["cat", "Kid's & other"]
    press(0, "None of the above")
    assert pressed(0) == ["None of the above"]
    press(0, "Kid's & other")
    press(0, "cat")
    assert pressed(0) == ["cat", "Kid's & other"]
    press(1, "dog")
    press(1, "dog")
    assert pressed(1) == []
    press(2, "Not sure")
    press(3, "dog")
    frame.locator("#undo").click()
    assert pressed(3) == []
    press(3, "Broken")
    frame.locator("#submit").click()
    assert "1 photo has no answer yet" in frame.locator(".notice").inner_text()
    assert site.sent("submit") == []
    frame.locator("#submit").click()
    answer = site.answer()
    assert json.loads(answer["labels-0"]) == ["cat", "Kid's & other"]
    assert [answer[f"state-{10 * i}"] for i in range(4)] == ["answered", "blank", "unsure", "broken"]
    assert [answer[f"labels-{10 * i}"] for i in range(1, 4)] == ["[]", "[]", "[]"]


def test_keyboard_alone_reaches_everything(site: Site) -> None:
    frame = site.open(task={"taskObject": tiles(4, multi=True, labels=[f"label {i}" for i in range(12)])})
    frame.locator(".tile.current").first.wait_for()
    press = site.page.keyboard.press
    for key in ["1", "q", "ArrowRight", "x", "ArrowLeft", "z"]:
        press(key)
    assert frame.locator("#zoom").get_attribute("open") is not None
    for key in ["Escape", "ArrowRight", "ArrowRight", "s", "u", "Backspace", "?"]:
        press(key)
    assert frame.locator("#keys").get_attribute("open") is not None
    frame.locator("#use-keys").uncheck()
    frame.locator("#keys .close").click()
    press("1")  # single keys are off now
    frame.locator("#help").click()
    frame.locator("#use-keys").check()
    frame.locator("#keys .close").click()
    press("i")
    assert frame.locator("#instructions").get_attribute("open") is None
    press("Control+Enter")
    press("Control+Enter")
    answer = site.answer()
    states = [answer[f"state-{10 * i}"] for i in range(4)]
    assert json.loads(answer["labels-0"]) == ["label 0", "label 9"]
    assert states[0] == "answered"
    assert sorted(states[1:]) == ["blank", "blank", "broken"]


def test_a_draft_comes_back(site: Site) -> None:
    frame = site.open(task={"taskObject": tiles(3, multi=True)})
    site.page.keyboard.press("2")
    site.page.wait_for_function("sent('draft').length > 0")
    draft = site.sent("draft")[-1]["answer"]
    assert draft["labels-0"] == '["dog"]'
    frame = site.open()
    site.page.evaluate("(answer) => tell({ type: 'restore', answer })", {**draft, "state-10": "unsure"})
    frame.locator("#progress", has_text="2 of 3 done").wait_for()
    assert frame.locator('.tile[data-index="0"] [aria-pressed="true"]').inner_text().split()[1] == "dog"
    site.page.evaluate("tell({ type: 'restore', answer: { 'labels-0': 'junk', 'state-0': 3 } })")
    frame.locator("#progress", has_text="1 of 3 done").wait_for()


def test_a_refused_submit_can_be_sent_again(site: Site) -> None:
    frame = site.open(task={"taskObject": tiles(1, multi=False)})
    site.page.keyboard.press("1")
    frame.locator("#submit").click()
    site.answer()
    frame.locator("#submit").click()
    assert len(site.sent("submit")) == 1
    site.page.evaluate("tell({ type: 'retry' })")
    site.page.wait_for_function("document.title || true")
    frame.locator("#submit").click()
    site.page.wait_for_function("sent('submit').length === 2")


def test_what_the_page_tells_those_who_cannot_see_it(site: Site) -> None:
    page = tiles(8, multi=True)
    page[1]["source-ref"] = "s3://b/lost.png"
    frame = site.open(task={"taskObject": page})
    frame.locator('.tile[data-index="10"] .lost').wait_for()
    images = frame.locator(".tile img")
    assert [images.nth(i).get_attribute("alt") for i in (0, 7)] == ["photo 1 of 8", "photo 8 of 8"]
    assert images.nth(7).get_attribute("loading") == "lazy"
    assert frame.locator("button[disabled], button[aria-disabled]").count() == 0
    sizes = frame.locator(".choices button, .asides button").evaluate_all(
        "all => all.map((e) => Math.min(e.getBoundingClientRect().height, e.getBoundingClientRect().width))"
    )
    assert min(sizes) >= 44
    site.page.set_viewport_size({"width": 320, "height": 640})
    width = frame.locator("html").evaluate("e => e.scrollWidth - e.clientWidth")
    assert width <= 0
    assert site.sent("height")[-1]["height"] > 640


OLDER = """<script src="https://assets.crowd.aws/crowd-html-elements.js"></script>
<script src="https://code.jquery.com/jquery-3.3.1.slim.min.js" integrity="sha384-x" crossorigin="anonymous"></script>
<link rel="stylesheet" href="https://stackpath.bootstrapcdn.com/bootstrap/4.3.1/css/bootstrap.min.css">
<script>
$(document).ready(function () {
  document.querySelectorAll('.card crowd-button').forEach(function (button) {
    button.onmouseup = function () { button.disabled = !button.disabled; };
  });
  document.querySelector('crowd-form').onsubmit = function (event) {
    var all = Array.from(document.querySelectorAll('.card crowd-button'));
    var picked = all.filter(function (b) { return b.disabled; });
    if (!picked.length) { $('#error').text('an answer is needed').show(); event.preventDefault(); }
    var texts = picked.map(function (b) { return b.textContent.trim(); });
    document.getElementById('labels-7').value = JSON.stringify(texts);
  };
});
</script>
<crowd-form><div id="error" style="display:none"></div><div class="card">
<input type="hidden" id="labels-7" name="labels-7" value="[]">
{% for name in task.input.taskObject.first.event_names %}
<crowd-button><span>{{ name }}</span></crowd-button>{% endfor %}
</div></crowd-form>"""


def test_a_template_of_the_older_kind_works_unchanged(site: Site) -> None:
    frame = site.open(OLDER)
    submit = frame.locator('crowd-button[form-action="submit"]')
    submit.click()
    assert frame.locator("#error").inner_text() == "an answer is needed"
    frame.locator("crowd-button", has_text="Kid's & other").click()
    submit.click()
    assert site.answer() == {"labels-7": '["Kid\'s & other"]'}


ELEMENTS = """<crowd-form>
<crowd-input name="a" label="A" required></crowd-input><crowd-input name="empty"></crowd-input>
<crowd-text-area name="t"></crowd-text-area>
<crowd-checkbox name="c" value="blurry">Blurry</crowd-checkbox><crowd-checkbox name="c" value="dim">Dim</crowd-checkbox>
<crowd-toggle-button name="g">On?</crowd-toggle-button>
<crowd-radio-group><crowd-radio-button name="r1" value="v">One</crowd-radio-button>
<crowd-radio-button name="r2" value="v">Two</crowd-radio-button></crowd-radio-group>
<crowd-slider name="s" min="0" max="10" value="4"></crowd-slider>
<crowd-classifier name="k" categories="['Cat']" header="Which?"></crowd-classifier>
<crowd-classifier name="one" categories='["Cat", "Dog"]'><classification-target>text</classification-target>
<short-instructions>s</short-instructions></crowd-classifier>
<crowd-image-classifier-multi-select name="many" src="{{ 's3://b/1.png' | grant_read_access }}"
 categories='["Cat", "Dog"]' exclusion-category='{"text": "None"}'></crowd-image-classifier-multi-select>
<crowd-keypoint name="x">not built</crowd-keypoint>
<input type="hidden" name="h" value="v"><select name="z"><option>p</option><option selected>q</option></select>
<input type="radio" name="n" value="1"><input type="radio" name="n" value="2" checked>
</crowd-form>"""


def test_what_each_crowd_element_submits(site: Site) -> None:
    frame = site.open(ELEMENTS.replace("['Cat']", "[&quot;Cat&quot;]"))
    submit = frame.locator('crowd-button[form-action="submit"]')
    submit.click()
    assert site.sent("submit") == []  # `a` is required
    frame.locator('crowd-input[name="a"] input').fill("text")
    frame.locator("crowd-text-area textarea").fill("l1\nl2")
    frame.locator('crowd-checkbox[value="dim"] input').check()
    frame.locator("crowd-radio-button[name=r2] input").check()
    submit.click()
    assert frame.locator(".crowd-error").count() == 1  # a classifier needs an answer
    frame.locator('crowd-classifier[name="k"] input').check()
    frame.locator('crowd-classifier[name="one"] input[value="Dog"]').check()
    many = frame.locator("crowd-image-classifier-multi-select")
    many.locator('input[value="None"]').check()
    many.locator('input[value="Dog"]').check()
    many.locator('input[value="Cat"]').check()
    submit.click()
    assert site.answer() == {
        "a": "text",
        "t": "l1\nl2",
        "c": {"blurry": False, "dim": True},
        "g": {"on": False},
        "r1": {"v": False},
        "r2": {"v": True},
        "s": 4,
        "k": {"label": "Cat"},
        "one": {"label": "Dog"},
        "many": {"labels": ["Cat", "Dog"]},
        "h": "v",
        "z": "q",
        "n": "2",
    }
    assert [message["element"] for message in site.sent("unknown")] == ["crowd-keypoint"]


def test_a_script_in_the_data_does_not_run(site: Site) -> None:
    evil = "<script>parent.postMessage({v:1,type:'submit',lease:'lease-1',answer:{}}, '*')</script>"
    template = "<crowd-form>{{ task.input.evil | skip_autoescape }}<b id='end'>end</b></crowd-form>"
    run: Callable[[], Any] = lambda: site.open(template, {"evil": evil})  # noqa: E731
    frame = run()
    frame.locator("#end").wait_for()
    assert site.sent("submit") == []
    assert any("Content Security Policy" in text for text in site.complaints)
    site.complaints.clear()
