"""oci-registry asks a directory who somebody is: OpenLDAP's own server, over TLS and not."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oci_tools.errors import Error
from oci_tools.registry import ldap
from tests.peers import certificate
from tests.registry.test_access import Start, ask, put, serve  # noqa: F401
from tests.registry.test_apikeys import basic, bearer

CONFIG = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {0}/pid
TLSCertificateFile {0}/test.cert
TLSCertificateKeyFile {0}/test.key
database mdb
suffix "dc=example,dc=org"
directory {0}/db
maxsize 10485760
access to attrs=userPassword by anonymous auth by * none
access to * by users read by anonymous none
"""
PEOPLE = """
dn: dc=example,dc=org
objectClass: dcObject
objectClass: organization
o: example
dc: example

dn: cn=reader,dc=example,dc=org
objectClass: person
cn: reader
sn: reader
userPassword: look

dn: uid=alice,dc=example,dc=org
objectClass: inetOrgPerson
uid: alice
cn: Alice
sn: A
employeeType: staff
userPassword: wonder:land

dn: uid=we\\2Cird(*),dc=example,dc=org
objectClass: inetOrgPerson
uid: we,ird(*)
uid: odd
cn: W
sn: W
userPassword: päss

dn: uid=twin,dc=example,dc=org
objectClass: inetOrgPerson
uid: twin
cn: T
sn: T
userPassword: x

dn: cn=twin,dc=example,dc=org
objectClass: inetOrgPerson
uid: twin
cn: twin
sn: T
userPassword: x

dn: cn=dev\\, all,dc=example,dc=org
objectClass: groupOfNames
cn: dev, all
member: uid=alice,dc=example,dc=org

dn: cn=ops,dc=example,dc=org
objectClass: groupOfNames
cn: ops
member: uid=alice,dc=example,dc=org
member: uid=we\\2Cird(*),dc=example,dc=org
"""


class Slapd:
    """OpenLDAP on free ports of the loopback."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        (directory / "db").mkdir()
        self.cert, _ = certificate(directory)
        config = directory / "slapd.conf"
        config.write_text(CONFIG.format(directory))
        subprocess.run(["/usr/sbin/slapadd", "-q", "-f", config], input=PEOPLE.encode(), check=True, capture_output=True)
        while True:  # it cannot take a port that is free by itself
            self.plain, self.tls = free()
            urls = f"ldap://127.0.0.1:{self.plain} ldaps://127.0.0.1:{self.tls}"
            words = ["/usr/sbin/slapd", "-f", config, "-h", urls, "-d", "stats"]
            self.process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
            assert self.process.stderr
            said = ""
            for line in self.process.stderr:
                said += line
                if "slapd starting" in line:  # it listens in a moment
                    while not all(answers(port) for port in (self.plain, self.tls)):
                        assert self.process.poll() is None
                    self._drain = threading.Thread(target=self.process.stderr.read)
                    self._drain.start()
                    return
            self.process.wait()
            assert "in use" in said, said

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()
        self._drain.join()


def answers(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def free() -> list[int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        return [int(sock.getsockname()[1]) for sock in (one, two)]


@pytest.fixture
def slapd(tmp_path: Path) -> Iterator[Slapd]:
    started = Slapd(tmp_path / "slapd")
    yield started
    started.stop()


def config(directory: Path, slapd: Slapd, **more: Any) -> Path:
    (directory / "look").write_text("look\n")
    found = {
        "url": f"ldaps://localhost:{slapd.tls}", "caCert": str(slapd.cert), "baseDN": "dc=example,dc=org",
        "bindDN": "cn=reader,dc=example,dc=org", "bindPasswordFile": str(directory / "look"), **more,
    }  # fmt: skip
    path = directory / "ldap.json"
    path.write_text(json.dumps({key: value for key, value in found.items() if value is not None}))
    return path


WAYS = {
    "ldaps": {},
    "starttls": {"url": "ldap://localhost:{plain}", "startTLS": True},
    "plain": {"url": "ldap://127.0.0.1:{plain}", "caCert": None},
}


@pytest.mark.needs("slapd")
@pytest.mark.parametrize("way", list(WAYS))
def test_passwords_of_a_directory(slapd: Slapd, tmp_path: Path, way: str) -> None:
    more = {key: value.format(plain=slapd.plain) if isinstance(value, str) else value for key, value in WAYS[way].items()}
    people = ldap.Directory(str(config(tmp_path, slapd, userGroupAttribute="employeeType", groupFilter="(member={dn})", **more)))
    assert people.check("alice", "wonder:land") == ("alice", ["dev, all", "ops", "staff"])
    assert people.check("ALICE", "wonder:land") == ("alice", ["dev, all", "ops", "staff"])  # rules are for one of them
    assert people.check("we,ird(*)", "päss") == ("we,ird(*)", ["ops"]) and people.check("odd", "päss") == ("odd", ["ops"])
    for name, password in (
        ("alice", "wonderland"), ("alice", ""), ("", "wonder:land"), ("*", "wonder:land"), ("a*", "wonder:land"),
        ("alice)(uid=*", "wonder:land"), ("nobody", "x"), ("twin", "x"), ("alice\0", "wonder:land"), ("alice", "x" * 5000),
        ("reader", "look"),
    ):  # fmt: skip
        assert people.check(name, password) is None, name


@pytest.mark.needs("slapd")
def test_a_directory_that_cannot_be_asked(slapd: Slapd, tmp_path: Path) -> None:
    other, _ = certificate(tmp_path)
    people = ldap.Directory(str(config(tmp_path, slapd, caCert=str(other))))
    with pytest.raises(Error, match="cannot ask directory 'ldaps://localhost"):
        people.check("alice", "wonder:land")  # somebody else's certificate
    people = ldap.Directory(str(config(tmp_path, slapd, bindDN="cn=nobody,dc=example,dc=org")))
    with pytest.raises(Error, match="does not let bindDN in"):
        people.check("alice", "wonder:land")
    slapd.process.kill()
    slapd.process.wait()
    with pytest.raises(Error, match="cannot ask directory") as caught:
        ldap.Directory(str(config(tmp_path, slapd))).check("alice", "wonder:land")
    assert caught.value.code == 75 and "\n" not in str(caught.value)


@pytest.mark.needs("slapd", "skopeo")
def test_users_of_a_directory_push_and_pull(oci: Any, serve: Start, slapd: Slapd, busybox: Path, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "rules").write_text("@ops team/** *\nalice own *\n+ open pull,push\n")
    path = config(tmp_path, slapd, groupFilter="(member={dn})")
    for how in ("basic", "token"):
        url = serve("--ldap", path, "--rules", tmp_path / "rules", "--auth", how, "--api-keys", tmp_path / "keys")
        host = url.partition("//")[2]
        copy = ("skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", f"oci:{busybox}:latest")
        for repository, who, good in (
            ("team/a", "alice:wonder:land", True), ("own", "alice:wonder:land", True), ("own", "odd:päss", False),
            ("open", "odd:päss", True), ("team/b", "odd:päss", True), ("team/a", "alice:guess", False),
        ):  # fmt: skip
            words = [*copy, "--dest-creds", who, f"docker://{host}/{repository}:1"]
            done = subprocess.run(words, env=oci.env, capture_output=True, text=True)
            assert (done.returncode == 0) == good, (how, repository, who, done.stderr)
    key = oci("registry", "key", "add", tmp_path / "keys", "alice").stdout.strip()
    url = serve("--ldap", path, "--rules", tmp_path / "rules", "--api-keys", tmp_path / "keys")
    assert ask(f"{url}/v2/", **basic("alice", "wonder:land")).status == 200
    slapd.process.terminate()
    slapd.process.wait()
    assert ask(f"{url}/v2/", **basic("alice", "wonder:land")).status == 200  # what was good a moment ago is
    assert ask(f"{url}/v2/", **basic("odd", "guess")).status == 503
    assert put(url, "own", b"1", **bearer(key)).status == 201  # and keys are our own


@pytest.mark.parametrize(
    "found, said",
    [
        ([], "not a json object"), ({"host": "x"}, "unknown member host"), ({"url": 5}, "url is not a string"),
        ({"startTLS": "yes"}, "startTLS is not true or false"), ({"url": "ldaps://x"}, "no baseDN"),
        ({"url": "http://x", "baseDN": "o=x"}, "neither ldaps"), ({"url": "ldap://x", "baseDN": "o=x"}, "in the clear"),
        ({"url": "ldaps://x", "baseDN": "o=x", "bindPasswordFile": "/none"}, "cannot read '/none'"),
    ],
)  # fmt: skip
def test_files_that_describe_no_directory(oci: Any, tmp_path: Path, found: Any, said: str) -> None:
    (tmp_path / "ldap.json").write_text(json.dumps(found))
    done = oci("registry", "serve", "--ldap", tmp_path / "ldap.json", tmp_path / "store", code=1)
    assert said in done.stderr and done.stderr.count("\n") == 1
