# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders a job's Liquid template into one worker page, with limits.

The template comes from whoever created the job, its data from strangers (file names, labels). So output is escaped
by default, only the template's own script tags get the page's nonce, no template is loaded from anywhere, and
loops, memory, output, filters' arguments and time are bounded. Scripts and styles of the known hosts are replaced by
copies from our own origin; what else a template links to is left to the page's content security policy.
"""

from __future__ import annotations

import functools
import html
import json
import re
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any

from liquid import Environment
from liquid.exceptions import LiquidError, ResourceLimitError, TemplateNotFoundError
from liquid.undefined import is_undefined
from markupsafe import Markup

from gandt.domain.errors import InvalidInput
from gandt_labeling.service.ports import FrameRequest, SignMedia

MAX_TEMPLATE_CHARACTERS = 128_000  # RenderUiTemplate's limit
MAX_TEXT = 2_000_000  # characters of output, or of one value in between
MAX_ITEMS = 20_000  # of a list in a filter, and iterations of all loops
RENDER_SECONDS = 5.0

# In JSON for a script or an attribute: nothing that ends a script, and no line end that JavaScript sees and JSON not.
_JS_SAFE = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026", 0x2028: "\\u2028", 0x2029: "\\u2029"}
_SCRIPT = re.compile(r"<script\b", re.IGNORECASE)
_WIDE_DATE = re.compile(r"%[^%a-zA-Z]*\d{2}")  # a padded field may be as wide as memory
_OWN_COPIES = (
    (re.compile(r"https?://assets\.crowd\.aws/crowd-html-elements\.js"), "crowd-elements.js"),
    (re.compile(r"https?://[\w.-]+/[\w@./-]*jquery[\w.-]*\.js"), "jquery-lite.js"),
    (re.compile(r"https?://[\w.-]+/[\w@./-]*bootstrap[\w.-]*\.css"), "bootstrap-lite.css"),
)
_INTEGRITY = re.compile(r"""\s(?:integrity|crossorigin)\s*=\s*(?:"[^"]*"|'[^']*')""", re.IGNORECASE)
# What a template or its data can make the engine raise besides Liquid's own errors.
_FAILURES = (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError)


class _Limited(Environment):
    context_depth_limit = 20
    loop_iteration_limit = MAX_ITEMS
    local_namespace_limit = 1_000_000
    output_stream_limit = MAX_TEXT


class LiquidPages:
    """The labeling service's PageRenderer.

    Args:
        static_path: where the portal serves `crowd-elements.js` and its like; begins and ends with "/".
        clock: monotonic seconds, for the time limit.
    """

    def __init__(self, static_path: str = "/static/", clock: Callable[[], float] = time.monotonic) -> None:
        self._static_path = static_path
        self._clock = clock
        # Stands for the nonce in parsed templates, which serve many pages. Nobody who writes data knows it.
        self._mark = secrets.token_urlsafe(16)
        self._parsed = functools.lru_cache(maxsize=32)(self._parse)

    def check(self, template: str) -> None:
        """Parse only.

        Raises:
            InvalidInput: too long, no form in it, or its syntax is wrong; the text names the line.
        """
        if len(template) > MAX_TEMPLATE_CHARACTERS:
            raise InvalidInput(
                f"the template has {len(template):,} characters, at most {MAX_TEMPLATE_CHARACTERS:,} are allowed",
                field="template",
                reason="TEMPLATE_TOO_LONG",
            )
        environment(lambda uri: uri).parse_checked(template)
        if "<crowd-form" not in template:
            raise InvalidInput(
                "the template has no crowd-form, so nothing can be submitted",
                field="template",
                reason="TEMPLATE_WITHOUT_FORM",
                fix="put the page's controls into <crowd-form> ... </crowd-form>",
            )

    def preview(self, template: str, task_input: Any) -> str:
        """See `PageRenderer.preview`."""
        return render(template, task_input, lambda uri: uri, self._clock)

    def render(self, request: FrameRequest, nonce: str) -> str:
        """The page's HTML.

        Raises:
            InvalidInput: the template fails on this input, or exceeds a limit.
        """
        with_shim, guarded, parsed = self._parsed(request.template, request.portal + self._static_path)
        page = guarded.render_parsed(parsed, request.template, request.task_input, request.sign)
        return _head(request) + (with_shim + page).replace(self._mark, nonce)

    def _parse(self, template: str, static: str) -> tuple[str, GuardedEnvironment, Any]:
        """The script tag of the crowd elements, where the template has none, and the template with its environment."""
        guarded = GuardedEnvironment(_no_links, self._clock)
        own = own_copies(template, static, self._mark)
        shim = static + "crowd-elements.js"
        script = "" if shim in own else f'<script nonce="{self._mark}" src="{html.escape(shim)}"></script>\n'
        return script, guarded, guarded.parse_checked(own)


def _no_links(_uri: str) -> str:
    return ""


def environment(sign: SignMedia, clock: Callable[[], float] = time.monotonic) -> GuardedEnvironment:
    """The Liquid environment of worker pages.

    Args:
        sign: S3 URI to a short-lived URL; other text never reaches it, and gives "".
    """
    return GuardedEnvironment(sign, clock)


class _Run(threading.local):
    """One rendering: each thread has its own."""

    sign: SignMedia
    ends_at: float


class GuardedEnvironment(_Limited):
    """Liquid with Ground Truth's filters, escaping on, and a guard around every filter."""

    def __init__(self, sign: SignMedia, clock: Callable[[], float]) -> None:
        super().__init__(autoescape=True)
        del self.filters["safe"]  # not Ground Truth's; it would switch escaping off unseen
        self.filters["to_json"] = _to_json
        self.filters["skip_autoescape"] = lambda value: Markup(_text(value))
        self.filters["grant_read_access"] = lambda value: self._run.sign(_text(value)) if _is_s3(value) else ""
        self._run = _Run()
        self._run.sign, self._run.ends_at = sign, clock() + RENDER_SECONDS
        self._clock = clock
        self.filters = {name: self._guarded(name, function) for name, function in self.filters.items()}

    def parse_checked(self, template: str) -> Any:
        """The parsed template.

        Raises:
            InvalidInput: its syntax is wrong, or it uses an unknown filter.
        """
        try:
            parsed = self.from_string(template)
        except (LiquidError, *_FAILURES) as e:
            raise _refusal(e, template) from e
        return parsed

    def render_parsed(self, parsed: Any, template: str, task_input: Any, sign: SignMedia) -> str:
        """Fill a template that this environment has parsed; several threads may, each with its own links and deadline.

        Raises:
            InvalidInput: it fails on this input, or exceeds a limit.
        """
        self._run.sign, self._run.ends_at = sign, self._clock() + RENDER_SECONDS
        try:
            return str(parsed.render(task={"input": task_input}))
        except (LiquidError, *_FAILURES) as e:
            raise _refusal(e, template) from e

    def _guarded(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)  # keeps the marks that say what the engine must pass
        def call(value: Any, *args: Any, **kwargs: Any) -> Any:
            if self._clock() > self._run.ends_at:
                raise ResourceLimitError(f"rendering took more than {RENDER_SECONDS:g} s", token=None)
            _check_size(name, value, args)
            result = function(value, *args, **kwargs)
            if isinstance(result, str) and len(result) > MAX_TEXT:
                raise ResourceLimitError(f"the filter {name} made a text of {len(result):,} characters", token=None)
            return result

        return call


def render(template: str, task_input: Any, sign: SignMedia, clock: Callable[[], float] = time.monotonic) -> str:
    """Render a template as Ground Truth does, with `task_input` as `task.input`.

    Raises:
        InvalidInput: the template is wrong, fails on this input, or exceeds a limit.
    """
    guarded = environment(sign, clock)
    return guarded.render_parsed(guarded.parse_checked(template), template, task_input, sign)


def own_copies(template: str, static_url: str, nonce: str) -> str:
    """The template with known scripts and styles from `static_url`, and the nonce on each of its script tags.

    This is done before rendering: a script tag that comes with the data gets no nonce and does not run.
    """
    for host, name in _OWN_COPIES:
        if host.search(template):
            template = _INTEGRITY.sub("", host.sub(static_url + name, template))
    return _SCRIPT.sub(f'<script nonce="{nonce}"', template)


def _head(request: FrameRequest) -> str:
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>Task</title>'
        f'<meta name="gandt-lease" content="{html.escape(request.lease_id)}">'
        f'<meta name="gandt-portal" content="{html.escape(request.portal)}">\n'
        + ('<meta name="gandt-ahead" content="yes">\n' if request.ahead else "")
    )


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _is_s3(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("s3://")


def _to_json(value: Any) -> str:
    if is_undefined(value):
        value = None
    plain = value if isinstance(value, str | int | float | bool | list | dict | None) else _text(value)
    return json.dumps(plain, ensure_ascii=False, default=_text).translate(_JS_SAFE)


def _check_size(name: str, value: Any, args: tuple[Any, ...]) -> None:
    """Refuse arguments that a filter would blow up."""
    for part in (value, *args):
        if isinstance(part, range | list | tuple) and len(part) > MAX_ITEMS:
            raise ResourceLimitError(f"the filter {name} got a list of {len(part):,} items", token=None)
    texts = [part for part in args if isinstance(part, str)]
    grown = 0
    if name == "replace" and len(texts) == 2:
        grown = len(_text(value)) + _text(value).count(texts[0]) * len(texts[1])
    elif name == "join" and isinstance(value, range | list | tuple):
        grown = len(value) * sum(map(len, texts)) + sum(len(_text(part)) for part in value)
    if grown > MAX_TEXT:
        raise ResourceLimitError(f"the filter {name} would make a text of {grown:,} characters", token=None)
    if name == "date" and texts and (len(texts[0]) > 100 or _WIDE_DATE.search(texts[0])):
        raise ResourceLimitError("the date's format is too wide", token=None)


def _refusal(error: Exception, template: str) -> InvalidInput:
    """The domain error of whatever stopped the engine, with the template's line where it is known."""
    token = getattr(error, "token", None)
    start = getattr(token, "start_index", None)
    where = (
        f"line {template.count(chr(10), 0, start) + 1} of the template" if isinstance(start, int) else "the template"
    )
    said = str(error) or type(error).__name__
    if isinstance(error, ResourceLimitError | MemoryError | RecursionError):
        return InvalidInput(
            f"{where} exceeds a limit: {said}", field="template", reason="TEMPLATE_LIMIT", fix="make the page smaller"
        )
    if isinstance(error, TemplateNotFoundError):
        said = "a template may not include another one"
    return InvalidInput(f"{where} cannot be rendered: {said}", field="template", reason="TEMPLATE_INVALID")
