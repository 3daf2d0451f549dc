"""The registry for people: pages that list repositories, tags, and what an image is made of.

    /                            repositories; where there are many, &last=NAME leads on
    /?repository=NAME            its tags, with digest, size and platforms
    /?repository=NAME&image=REF  a manifest: its layers or parts, its annotations, and what refers to it

Plain HTML without scripts or anything from elsewhere; the security policy in the answers forbids
both, since names, annotations and media types come from whoever may push.
"""

from __future__ import annotations

from oci_tools import document
from oci_tools.errors import Error
from oci_tools.http import Request, Response
from oci_tools.image import digest as digests
from oci_tools.image import manifest as manifests
from oci_tools.image import ref as refs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from oci_tools.image.layout import Descriptor
    from oci_tools.registry.storage import Repository

HEADERS = (
    ("Content-Type", "text/html; charset=utf-8"),
    ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
)
STYLE = (
    "body{font:15px/1.5 sans-serif;margin:2em auto;max-width:70em;padding:0 1em;color:#222;background:#fff}"
    "table{border-collapse:collapse;width:100%}"
    "td,th{text-align:left;padding:.25em .8em .25em 0;border-bottom:1px solid #ddd}"
    "td,th{vertical-align:top;overflow-wrap:anywhere}code{font-size:13px}.n{text-align:right;white-space:nowrap}a{color:#05c}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}a{color:#8bf}td,th{border-color:#444}}"
)
ROWS = 1000  # of a table at most
PARTS = 50  # of an index, that are looked into


class Html(str):
    """Text that is HTML already."""


def html(value: object) -> Html:
    """A value as HTML: what is none yet is escaped."""
    from html import escape

    return value if isinstance(value, Html) else Html(escape("" if value is None else str(value)))


def link(text: object, **query: str) -> Html:
    from urllib.parse import urlencode

    return Html(f'<a href="/?{html(urlencode(query))}">{html(text)}</a>' if query else f'<a href="/">{html(text)}</a>')


def table(heads: str, rows: Iterable[tuple[object, ...]]) -> Html:
    """A table; a head that ends in "#" is of numbers."""
    columns = heads.split(",")
    kinds = [' class="n"' if column.endswith("#") else "" for column in columns]
    text = "".join(f"<th{kind}>{html(c.rstrip('#'))}</th>" for c, kind in zip(columns, kinds, strict=True))
    lines = [f"<table><tr>{text}</tr>"]
    for at, row in enumerate(rows):
        if at == ROWS:
            lines.append(f'<tr><td colspan="{len(columns)}">and more</td></tr>')
            break
        cells = "".join(f"<td{kind}>{html(cell)}</td>" for cell, kind in zip(row, kinds, strict=True))
        lines.append(f"<tr>{cells}</tr>")
    return Html("\n".join([*lines, "</table>"]))


def answer(title: str, *parts: Html, status: int = 200) -> Response:
    body = "\n".join(parts)
    text = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>\n'
        f"<body><p>{link('repositories')}</p><h1>{html(title)}</h1>\n{body}\n</body></html>\n"
    )
    return Response(status, HEADERS, text.encode("utf-8", "replace"))


def size(count: object) -> str:
    """Bytes for people."""
    if not isinstance(count, int) or count < 0:
        return ""
    number, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while number >= 1000 and len(units) > 1:
        number /= 1000
        units.pop(0)
    return f"{number:.0f} {units[0]}" if units[0] == "B" else f"{number:.1f} {units[0]}"


# -- the pages ------------------------------------------------------------------------------


def repositories(names: list[str], last: str, person: Html) -> Response:
    some, more = _some([name for name in names if name > last])
    rows = ((link(name, repository=name),) for name in some)
    shown = table("repository", rows) if names else Html("<p>There is none yet.</p>")
    return answer("repositories", shown, *more, person)


def tags(repository: Repository, last: str) -> Response:
    behind = (last.lower(), last)
    some, more = _some([tag for tag in repository.tags() if (tag.lower(), tag) > behind], repository=repository.name)
    rows = (_tag(repository, tag) for tag in some)
    return answer(repository.name, table("tag,kind,platforms,size#,digest", rows), *more)


def _some(names: list[str], **query: str) -> tuple[list[str], list[Html]]:
    """The names of a page, and what leads to the next."""
    if len(names) <= ROWS:
        return names, []
    return names[:ROWS], [Html(f"<p>{link('more', **query, last=names[ROWS - 1])}</p>")]


def _tag(repository: Repository, tag: str) -> tuple[object, ...]:
    descriptor = repository.find(tag) or {}
    found = _document(repository, descriptor)
    name = link(tag, repository=repository.name, image=tag)
    platforms = ", ".join(_platforms(repository, found))
    return name, _kind(found, descriptor), platforms, size(_total(repository, found)), _code(descriptor)


def image(repository: Repository, reference: str) -> Response | None:
    """The page of a manifest; None: there is none."""
    descriptor = repository.find(reference) if digests.valid(reference) or refs.is_tag(reference) else None
    if descriptor is None:
        return None
    found = _document(repository, descriptor)
    facts: list[tuple[object, ...]] = [
        ("digest", _code(descriptor)), ("media type", descriptor.get("mediaType")), ("kind", _kind(found, descriptor)),
        ("platforms", ", ".join(_platforms(repository, found))), ("size", size(_total(repository, found))),
        ("subject", _to(repository, found.get("subject"))),
    ]  # fmt: skip
    parts = [table("what,is", [fact for fact in facts if fact[1]])]
    if inner := _list(found, "manifests"):
        rows = [
            (_to(repository, d), _platform(d.get("platform")), d.get("mediaType"), size(d.get("size")))
            for d in inner
        ]
        parts += [Html("<h2>manifests</h2>"), table("digest,platform,media type,size#", rows)]
    if layers := _list(found, "layers"):
        lines = [(at, _code(d), d.get("mediaType"), size(d.get("size"))) for at, d in enumerate(layers, 1)]
        parts += [Html("<h2>layers</h2>"), table("layer#,digest,media type,size#", lines)]
    notes = found.get("annotations")
    if isinstance(notes, dict) and notes:
        parts += [Html("<h2>annotations</h2>"), table("name,value", sorted((str(k), v) for k, v in notes.items()))]
    refers = repository.referrers(descriptor["digest"])
    if refers:
        about = [(_to(repository, d), d.get("artifactType"), size(d.get("size"))) for d in refers]
        parts += [Html("<h2>referrers</h2>"), table("digest,artifact type,size#", about)]
    path = [Html(f"<p>{link(repository.name, repository=repository.name)}</p>")]
    return answer(f"{repository.name}{'@' if ':' in reference else ':'}{reference}", *path, *parts)


# -- what is in a manifest that anybody may have written ------------------------------------


def _document(repository: Repository, descriptor: Descriptor) -> dict[str, Any]:
    try:
        found = repository.manifest(descriptor["digest"])
        value = document.loads(found[0]) if found else None
    except (Error, KeyError):
        return {}
    return value if isinstance(value, dict) else {}


def _list(found: dict[str, Any], key: str) -> list[dict[str, Any]]:
    entries = found.get(key)
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _kind(found: dict[str, Any], descriptor: Descriptor) -> object:
    if manifests.is_index(descriptor.get("mediaType")):
        return "index"
    config = found.get("config")
    inner = config.get("mediaType") if isinstance(config, dict) else None
    return "image" if inner in manifests.CONFIGS else found.get("artifactType") or inner or "artifact"


def _total(repository: Repository, found: dict[str, Any]) -> int | None:
    """The bytes of an image's config and layers; of an index those of its images here, what they share once."""
    images = [_document(repository, d) for d in _list(found, "manifests")[:PARTS]] or [found]
    sizes: dict[str, int] = {}
    for one in images:
        config = one.get("config")
        for part in [*_list(one, "layers"), config if isinstance(config, dict) else {}]:
            if isinstance(part.get("size"), int):
                sizes[str(part.get("digest"))] = part["size"]
    return sum(sizes.values()) if sizes else None


def _platforms(repository: Repository, found: dict[str, Any]) -> list[str]:
    inner = _list(found, "manifests")
    if inner:
        return list(dict.fromkeys(text for d in inner if (text := _platform(d.get("platform")))))
    config = found.get("config")
    if isinstance(config, dict) and config.get("mediaType") in manifests.CONFIGS:
        try:
            return [_platform(document.loads(repository.layout.read(config)))]
        except Error:
            pass
    return []


def _platform(value: object) -> str:
    if not isinstance(value, dict):
        return ""
    return "/".join(value[key] for key in ("os", "architecture", "variant") if isinstance(value.get(key), str))


def _code(descriptor: Descriptor) -> Html:
    return Html(f"<code>{html(descriptor.get('digest'))}</code>")


def _to(repository: Repository, descriptor: object) -> object:
    digest = descriptor.get("digest") if isinstance(descriptor, dict) else None
    return link(digest, repository=repository.name, image=digest) if isinstance(digest, str) else None


def show(request: Request, names: list[str], repository: Repository | None, more: Html) -> Response:
    """The page that a request asks for, of the repositories that its sender may read; `more` is for them."""
    name, reference = request.query("repository"), request.query("image")
    if not name:
        return repositories(names, request.query("last"), more)
    found = None
    if repository is not None:
        found = image(repository, reference) if reference else tags(repository, request.query("last"))
    return found or answer("not here", Html(f"<p>There is no {html(name)} {html(reference)}.</p>"), status=404)
