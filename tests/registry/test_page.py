"""The page for people: what it lists, for whom, and that nothing in it is believed."""

from __future__ import annotations

import base64
import json
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

import bcrypt
import pytest

from tests.peers import INDEX, digest
from tests.registry.test_operate import start
from tests.registry.test_server import Client

EVIL = "<script>alert(1)</script>\"'&"


class Page(HTMLParser):
    """A page's cells by row, its links, and its tags' names."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.links: dict[str, str] = {}
        self.tags: set[str] = set()
        self._stack: list[str] = []
        self._link = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        assert not any(name.startswith("on") or name == "src" for name, _ in attrs)
        if tag not in ("meta", "br"):
            self._stack.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "a":
            self._link = dict(attrs)["href"]
            assert self._link.startswith("/")

    def handle_endtag(self, tag: str) -> None:
        assert self._stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if "td" in self._stack:
            self.rows[-1][-1] += data
        if "a" in self._stack:
            self.links[data] = self._link


def page(ask: Client, path: str, status: int = 200, **headers: str) -> Page:
    answer = ask("GET", path, **headers)
    assert answer.status == status and answer.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    found = Page(answer.body.decode())
    assert not found._stack and not found.tags & {"script", "img", "link", "iframe", "form"}
    return found


def test_it_leads_from_repositories_to_layers_and_referrers(registry: Any) -> None:
    ask = Client(registry.host)
    assert "none yet" in ask("GET", "/").body.decode()
    image = ask.image("team/app", "1.0", b"x" * 1500)
    about = ask.image("team/app", "", b"sbom", subject=image, artifactType="application/sbom")
    part = {**image, "platform": {"os": "linux", "architecture": "arm", "variant": "v7"}}
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [part], "annotations": {"a": "b"}}
    assert ask("PUT", "/v2/team/app/manifests/multi", index, Content_Type=INDEX).status == 201
    first = page(ask, "/")
    tags = page(ask, first.links["team/app"])
    rows = {row[0]: row[1:] for row in tags.rows}
    assert rows["1.0"] == ["image", "linux", "1.5 kB", image["digest"]]
    assert rows["multi"][:3] == ["index", "linux/arm/v7", "1.5 kB"]
    one = page(ask, tags.links["1.0"])
    assert ["1", digest(b"x" * 1500), "application/vnd.oci.image.layer.v1.tar", "1.5 kB"] in one.rows
    assert [about["digest"], "application/sbom", f"{about['size']} B"] in one.rows
    assert ["subject", image["digest"]] in page(ask, one.links[about["digest"]]).rows
    multi = page(ask, tags.links["multi"])
    assert [image["digest"], "linux/arm/v7", image["mediaType"], f"{image['size']} B"] in multi.rows
    assert ["a", "b"] in multi.rows and page(ask, multi.links[image["digest"]])


def test_it_believes_nothing(registry: Any) -> None:
    ask = Client(registry.host)
    for at, more in enumerate(
        [
            {"annotations": {EVIL: EVIL}, "artifactType": EVIL, "layers": [{"digest": EVIL, "mediaType": EVIL}, 7]},
            {"config": 7, "layers": {"a": 1}, "manifests": [EVIL], "annotations": [1]},
            {"config": {"size": -1, "digest": None}, "manifests": [{"platform": {"os": 1}}], "subject": EVIL},
        ]
    ):
        data = json.dumps({"schemaVersion": 2, **more}).encode()
        assert ask("PUT", f"/v2/x/manifests/t{at}", data, Content_Type="application/x-else").status == 201
        page(ask, f"/?repository=x&image=t{at}")
    assert len(page(ask, "/?repository=x").rows) == 4
    for query in (f"repository={quote(EVIL)}", f"repository=x&image={quote(EVIL)}", "repository=..&image=.."):
        page(ask, f"/?{query}", 404)
    assert ask("POST", "/").status == 405


def test_it_shows_what_one_may_pull(oci: Any, tmp_path: Path) -> None:
    (tmp_path / "users").write_text(f"bob:{bcrypt.hashpw(b'builder', bcrypt.gensalt(4)).decode()}\n")
    (tmp_path / "rules").write_text("* public pull\nbob bob *\n* secret push\n* bob push\n* public push\n")
    words = ("--htpasswd", tmp_path / "users", "--rules", tmp_path / "rules")
    ask = Client(start(oci, tmp_path, *words, "--auth", "token").host)
    for name in ("public", "bob", "secret"):
        ask.blob(name, b"1")
    said = {"Authorization": "Basic " + base64.b64encode(b"bob:builder").decode()}
    assert list(page(ask, "/").links) == ["repositories", "public", "log in"]
    assert list(page(ask, "/", **said).links) == ["repositories", "bob", "public"]
    page(ask, "/?repository=secret", 404, **said)
    (tmp_path / "rules").write_text("bob ** pull\n")
    refused = ask("GET", "/")
    assert refused.status == 401 and refused.headers["WWW-Authenticate"].startswith("Basic ")
    wrong = ask("GET", "/", Authorization="Basic " + base64.b64encode(b"bob:x").decode())
    assert wrong.status == 401 and wrong.headers["WWW-Authenticate"].startswith("Basic ")


def test_a_thousand_tags_are_a_page(registry: Any) -> None:
    ask = Client(registry.host)
    image = ask.image("app", "0")
    data = (registry.dir / "app/blobs/sha256" / image["digest"][7:]).read_bytes()
    for at in range(0, 1005, 50):
        query = "&".join(f"tag=t{n}" for n in range(at, at + 50))
        assert ask("PUT", f"/v2/app/manifests/{image['digest']}?{query}", data, Content_Type=image["mediaType"]).status == 201
    first = page(ask, "/?repository=app")
    second = page(ask, first.links["more"])
    assert len(first.rows) == 1001 and "more" not in second.links
    listed = [row[0] for row in (*first.rows[1:], *second.rows[1:])]
    assert listed == ask("GET", "/v2/app/tags/list").json["tags"]


# -- in a browser ---------------------------------------------------------------------------


@pytest.fixture
def browser(tmp_path: Path) -> Any:
    """What headless Chromium makes of a URL: the document as it is after scripts, if any, have run."""
    words = ["chromium-headless-shell", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/chromium"]
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}

    def seen(url: str, *more: str) -> str:
        done = subprocess.run([*words, *more, url], capture_output=True, text=True, env=env, check=True)
        assert "Refused to" not in done.stderr, "our own policy forbids something of our own"
        return done.stdout

    return seen


@pytest.mark.needs("chromium-headless-shell")
def test_a_browser_shows_it(registry: Any, browser: Any, tmp_path: Path) -> None:
    ask = Client(registry.host)
    image = ask.image("team/app", "1.0", b"x" * 1500)
    about = ask.image("team/app", "", b"sbom", subject=image, artifactType="application/sbom")
    url = f"http://{registry.host}"
    tags = Page(browser(f"{url}/", "--dump-dom")).links["team/app"]
    shown = Page(browser(url + tags, "--dump-dom"))
    assert ["1.0", "image", "linux", "1.5 kB", image["digest"]] in shown.rows
    one = Page(browser(url + shown.links["1.0"], "--dump-dom"))
    assert ["1", digest(b"x" * 1500), "application/vnd.oci.image.layer.v1.tar", "1.5 kB"] in one.rows
    assert [about["digest"], "application/sbom", f"{about['size']} B"] in one.rows
    picture = tmp_path / "page.png"
    browser(url + shown.links["1.0"], "--window-size=900,600", f"--screenshot={picture}")
    data = picture.read_bytes()
    assert data.startswith(b"\x89PNG") and data[16:24] == (900).to_bytes(4, "big") + (600).to_bytes(4, "big")


@pytest.mark.needs("chromium-headless-shell")
def test_a_browser_runs_nothing_of_an_image(registry: Any, browser: Any) -> None:
    ask = Client(registry.host)
    evil = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\"><b>bold</b>"
    notes = {evil: evil, "link": "javascript:document.title='taken'", "\"'><svg onload=document.title='taken'>": "&amp;"}
    data = json.dumps({"schemaVersion": 2, "annotations": notes, "artifactType": evil, "layers": [{"mediaType": evil}]})
    assert ask("PUT", "/v2/x/manifests/t", data, Content_Type="application/x-else").status == 201
    text = browser(f"http://{registry.host}/?repository=x&image=t", "--dump-dom")
    found = Page(text)  # no element of the image's own, no attribute that acts
    assert not found.tags & {"script", "img", "svg", "b"} and "<title>x:t</title>" in text
    assert [evil, evil] in found.rows and ["link", notes["link"]] in found.rows and notes["link"] not in found.links.values()
