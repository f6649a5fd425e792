"""The catalogue of problems as pages of the app itself, to which the `type` of each problem leads."""

import re
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from html import escape
from urllib.parse import quote

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from fastapi_kit.errors.configuration import ConfigurationError
from fastapi_kit.errors.declaration import raises
from fastapi_kit.errors.kinds import Kind, kind_of_app, kinds_of_app
from fastapi_kit.errors.standard import NotFoundError

__all__ = ["catalogue_router"]

_STYLE = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:45rem;margin:auto;padding:1rem}"
    "pre{overflow-x:auto;padding:1rem;border:1px solid}dt{font-weight:bold}code{overflow-wrap:anywhere}"
)
_HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
}
_WELL_FORMED = re.compile(r"(/[A-Za-z0-9._~-]+)+")


def catalogue_router(prefix: str = "/problems") -> APIRouter:
    """Return a router with a page that lists the kinds of problems, and one for each, where its `type` leads.

        errors.install(app, type_base="https://api.example.com/problems/")
        app.include_router(errors.catalogue_router())

    A page has the code, the title, the status, the first paragraph of the class's docstring, the extensions, the
    headers and an example as the app writes it. It is HTML for people, without a script or a request to elsewhere;
    neither route is in the OpenAPI document. Titles are those of the classes, whatever `title_of` makes of them.

    The list has what the routes of the app and of those mounted on it declare with `raises`, and what any app answers
    with; not each class in the process, since some may be of another app. A single page there is for each code in the
    process, since a problem may be raised that no route declares, and its `type` has to lead somewhere: who knows the
    code has seen the problem, or reads no more than a docstring that was written for clients. Codes that are made of a
    status have a page too.

    Raises `ConfigurationError` for a prefix that is no path of letters, digits and `._~-`.

    Security: the pages are public, unless the router is included with a dependency.
    """
    if _WELL_FORMED.fullmatch(prefix) is None:
        raise ConfigurationError(f"prefix is {prefix!r}: write a path without a slash at its end, as /problems")
    router = APIRouter(prefix=prefix, include_in_schema=False)
    here = prefix.rpartition("/")[2]  # links are relative, so that they hold behind any proxy and mount

    @router.get("")
    async def kinds(request: Request) -> HTMLResponse:
        items = (
            f'<dt><a href="./{here}/{escape(quote(kind.code))}"><code>{escape(kind.code)}</code></a></dt>'
            f"<dd>{escape(kind.title) if kind.title not in kind.status_line else ''} {escape(kind.status_line)}</dd>"
            for kind in kinds_of_app(request.app)
        )
        text = "<p>Each error of this service has a <code>code</code>, which does not change. The codes are:</p>"
        return _page("Problems", f"{text}<dl>{''.join(items)}</dl>")

    @router.get("/{code}")
    @raises(NotFoundError)
    async def kind(request: Request, code: str) -> HTMLResponse:
        found = kind_of_app(request.app, code)
        if found is None:
            raise NotFoundError("There is no such kind of problem.")
        return _page(found.title, f'{_about(found)}<p><a href="../{here}">All problems</a></p>')

    return router


def _about(kind: Kind) -> str:
    return (
        f"<p>{_prose(kind.text)}</p>"
        f"<dl><dt>Code</dt><dd><code>{escape(kind.code)}</code></dd>"
        f"<dt>Status</dt><dd>{escape(kind.status_line)}</dd></dl>"
        f"{_names('Members of the body', kind.extensions)}{_names('Headers', kind.headers)}"
        f"<h2>Example</h2><pre><code>{escape(kind.example_json)}</code></pre>"
    )


def _names(heading: str, named: Mapping[str, str]) -> str:
    items = "".join(f"<dt><code>{escape(name)}</code></dt><dd>{_prose(text)}</dd>" for name, text in named.items())
    return f"<h2>{heading}</h2><dl>{items}</dl>" if items else ""


def _prose(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _page(title: str, body: str) -> HTMLResponse:
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main><h1>{escape(title)}</h1>{body}</main></body></html>"
    )
    return HTMLResponse(html, headers=_HEADERS)
