"""Lists over the wire: of tags, repositories and referrers, in pages (distribution-spec, "Content Discovery").

    ?n=COUNT&last=ENTRY     so many entries, those behind that one      Link: <...>; rel="next" leads on
"""

from __future__ import annotations

from oci_tools import document
from oci_tools.http import Request, Response
from oci_tools.image import layout as layouts
from oci_tools.image import manifest as manifests
from oci_tools.registry.refusal import JSON, VERSION, Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PAGE = 10_000  # entries at most
PAGE_BYTES = 4_000_000  # of referrers: an index that every client reads has 4 MiB at most


def page(request: Request, key: str, entries: list[str], more: dict[str, Any]) -> Response:
    """Some of a sorted list of names."""
    from urllib.parse import quote

    last, count = request.query("last"), _count(request)
    if last:
        entries = [entry for entry in entries if (entry.lower(), entry) > (last.lower(), last)]
    some = entries[:count]
    headers = [("Content-Type", JSON), VERSION]
    if some and len(entries) > count:
        headers.append(_link(request, f"n={count}&last={quote(some[-1], safe='')}"))
    return Response(200, headers, document.dumps({**more, key: some}) + b"\n")


def referrers(request: Request, entries: list[dict[str, Any]]) -> Response:
    """An index of what refers to a manifest; empty, too, for one that nobody knows."""
    from urllib.parse import quote

    headers = [("Content-Type", layouts.INDEX), VERSION]
    wanted = request.query("artifactType").replace(" ", "+")  # as many write "+" in a query
    if wanted:
        entries = [entry for entry in entries if entry.get("artifactType") == wanted]
        headers.append(("OCI-Filters-Applied", "artifactType"))
    count = _count(request)
    some, on = _some(entries, request.query("last"), count)
    if on:
        kind = f"&artifactType={quote(wanted, safe='')}" if wanted else ""
        headers.append(_link(request, f"n={count}&last={some[-1]['digest']}{kind}"))
    return Response(200, headers, document.dumps(manifests.new_index(some)))


def _some(entries: list[dict[str, Any]], last: str, count: int) -> tuple[list[dict[str, Any]], bool]:
    """A page of referrers behind the digest `last`, and whether there are more.

    If one page is enough they stay as they came; else they are in the order of their digests, which no push changes.
    """
    sizes = {str(entry["digest"]): len(document.dumps(entry)) + 1 for entry in entries}
    if not last and len(entries) <= count and sum(sizes.values()) <= PAGE_BYTES:
        return entries, False
    some: list[dict[str, Any]] = []
    left = PAGE_BYTES
    for entry in sorted((one for one in entries if one["digest"] > last), key=lambda one: str(one["digest"])):
        left -= sizes[entry["digest"]]
        if len(some) == count or (left < 0 and some):
            return some, bool(some)
        some.append(entry)
    return some, False


def _link(request: Request, query: str) -> tuple[str, str]:
    return "Link", f'<{request.target.partition("?")[0]}?{query}>; rel="next"'


def _count(request: Request) -> int:
    """How many entries a client wants at most."""
    asked = request.query("n")
    if asked and not (asked.isascii() and asked.isdigit()):
        raise Refusal(400, "PAGINATION_NUMBER_INVALID", "n is not a number", {"n": asked})
    return min(int(asked[:9]) if asked else PAGE, PAGE)
