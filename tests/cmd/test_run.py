"""The words of oci-run: what each verb takes, prints and refuses.  What the runtime does is in tests/runtime."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

VERBS = ("create", "start", "run", "state", "kill", "delete", "exec", "update", "pause", "resume", "ps")


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_without_an_id_makes_no_sense(oci: Any, verb: str) -> None:
    done = oci("run", verb, code=2)
    assert done.stdout == "" and len(done.stderr.splitlines()) <= 2


@pytest.mark.parametrize("verb", [*VERBS, "features", "list"])
def test_help(oci: Any, verb: str) -> None:
    text = oci("run", verb, "--help").stdout
    assert f"oci-run {verb}" in text


def test_short_words_for_help_and_version(oci: Any) -> None:
    """As runc takes them; among a container's options they are others'."""
    assert "oci-run" in oci("run", "-h").stdout
    assert "oci-run checkpoint" in oci("run", "checkpoint", "-h").stdout
    assert oci("run", "-v").stdout.startswith("oci-run version ")


def test_an_option_that_there_is_not(oci: Any) -> None:
    for words in (["state", "--nosuch", "x"], ["create", "-Z", "x"], ["kill", "x", "TERM", "more"], ["list", "x"]):
        assert oci("run", *words, code=2).stderr
    said = oci("run", "--rmx", "busybox", code=2).stderr
    assert said == "oci-run: no such option '--rmx'. (Did you mean one of: '--rm', '--rmi'?) (see --help)\n"


# All that Docker calls official: whoever says one of these means no verb.
OFFICIAL = """adminer aerospike almalinux alpine amazoncorretto amazonlinux api-firewall arangodb archlinux backdrop bash bonita buildpack-deps
busybox caddy cassandra chronograf cirros clefos clickhouse clojure composer convertigo couchbase couchdb crate dart debian docker drupal
eclipse-mosquitto eclipse-temurin eggdrop elasticsearch elixir emqx erlang express-gateway fedora flink fluentd gazebo gcc geonetwork ghost
golang gradle groovy haproxy haskell haxe hello-world hitch httpd hylang ibmjava influxdb irssi jetty joomla jruby julia kapacitor kibana kong
krakend lightstreamer liquibase logstash mageia mariadb matomo maven mediawiki memcached mongo mongo-express monica mono mysql nats
nats-streaming neo4j neurodebian nextcloud nginx node notary odoo open-liberty openjdk oraclelinux orientdb percona perl photon php
php-zendserver phpmyadmin plone postfixadmin postgres pypy python r-base rabbitmq rakudo-star redis redmine registry rethinkdb rocket.chat
rockylinux ros ruby rust sapmachine satosa scratch silverpeas sl solr sonarqube spark spiped storm swift swipl telegraf tomcat tomee traefik
ubuntu unit varnish vault websphere-liberty wordpress xwiki yourls znc zookeeper""".split()


@pytest.mark.parametrize(("said", "meant"), [("strat", "start"), ("stpo", "stop"), ("exe", "exec"), ("lsit", "list"), ("checkpont", "checkpoint"), ("logss", "logs")])
def test_a_slip_of_a_verb_is_no_strangers_image(oci: Any, busybox: Path, said: str, meant: str) -> None:
    done = oci("run", said, "web", code=125)
    assert done.stderr == f"oci-run: no such verb or image here '{said}' (oci-run {meant}; the image is docker.io/library/{said}:latest)\n"
    oci.preload(f"docker.io/library/{said}:latest", busybox)
    if os.geteuid() == 0:
        assert oci("run", said, "echo", "an image").stdout == "an image\n"


def test_no_official_image_is_taken_for_a_slip() -> None:
    from oci_tools import cli
    from oci_tools.cmd import run

    verbs = run.COMMAND.verbs
    assert verbs
    assert {word: meant for word in OFFICIAL if len(word) > 2 and (meant := cli.near(word, verbs))} == {"crate": "create"}


@pytest.mark.parametrize("verb", VERBS)
def test_nobody_is_there(oci: Any, verb: str) -> None:
    """An error that names it, in one line; only `delete --force` does not mind."""
    words = ["x"] if verb != "exec" else ["x", "true"]
    words += ["--pids-limit", "5"] if verb == "update" else []
    done = oci("run", verb, *words, code=255 if verb == "exec" else 1)
    assert len(done.stderr.splitlines()) == 1
    if verb in ("create", "run"):
        assert "config.json': no such file or directory" in done.stderr
    else:
        assert done.stderr == "oci-run: container does not exist 'x' (oci-run list shows those that there are)\n"
    oci("run", "delete", "--force", "x")


@pytest.mark.parametrize("text", ["", "65", "-1", "SIGNOSUCH", "TERM ", "RTMIN+31", "9x", "٩"])
def test_signals_that_there_are_not(oci: Any, text: str) -> None:
    done = oci("run", "kill", "x", "--", text, code=None) if text.startswith("-") else oci("run", "kill", "x", text, code=1)
    if text and not text.startswith("-"):
        assert "unknown signal" in done.stderr


def test_features(oci: Any) -> None:
    found = json.loads(oci("run", "features").stdout)
    assert found["ociVersionMin"] == "1.0.0"
    assert {"mount", "user", "time"} <= set(found["linux"]["namespaces"])
    assert {"rbind", "rro", "rshared"} <= set(found["mountOptions"])
    assert "CAP_BPF" in found["linux"]["capabilities"]
    assert len(found["hooks"]) == 6


@pytest.mark.skipif(Path("/run/systemd/system").is_dir(), reason="systemd runs here")
def test_no_systemd(oci: Any, tmp_path: Path) -> None:
    (tmp_path / "b/rootfs").mkdir(parents=True)
    oci("run", "spec", "-b", "b")
    config = tmp_path / "b/config.json"
    config.write_text(config.read_text().replace('"terminal": true', '"terminal": false'))
    said = oci("run", "--systemd-cgroup", "create", "-b", "b", "x", code=1).stderr
    assert said == "oci-run: cannot use --systemd-cgroup: systemd does not run on this host\n"
    assert "does not exist" in oci("run", "state", "x", code=1).stderr


def test_the_version(oci: Any) -> None:
    """podman reads it, and wants but some text."""
    assert oci("run", "--version").stdout.startswith("oci-run version ")


@pytest.mark.root
def test_global_options_stand_before_or_after_the_verb(box: Any, tmp_path: Path) -> None:
    root = tmp_path / "state"
    box.process["args"] = ["true"]
    box.save()
    out = subprocess.DEVNULL
    box.oci("run", "--root", root, "create", "--bundle", box.bundle, box.id, stdout=out, stderr=out)
    assert json.loads(box.oci("run", "state", f"--root={root}", box.id).stdout)["id"] == box.id
    box.oci("run", "delete", box.id, "--root", root)


@pytest.mark.root
def test_from_the_bundle_itself_and_without_an_environment(box: Any) -> None:
    """Engines start some verbs without PATH; the interpreter is found by its own path."""
    box.process["args"] = ["pwd"]
    box.save()
    assert box.oci("run", "run", box.id, cwd=box.bundle).stdout == "/\n"
    env = {"OCI_RUN": box.oci.env["OCI_RUN"], "PATH": ""}
    with open(box.output, "w") as out:
        words = [box.oci.bin / "oci-run", "create", "-b", box.bundle, box.id]
        assert subprocess.call(words, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/") == 0
    for words in (["state", box.id], ["pause", box.id], ["resume", box.id], ["kill", box.id, "9"], ["delete", "--force", box.id]):
        subprocess.run([box.oci.bin / "oci-run", *words], env=env, check=True, stdout=subprocess.DEVNULL, cwd="/")


@pytest.mark.root
def test_a_bundle_by_a_relative_path(box: Any) -> None:
    box.process["args"] = ["true"]
    box.save()
    out = subprocess.DEVNULL
    box.oci("run", "create", "-b", "bundle", box.id, cwd=box.bundle.parent, stdout=out, stderr=out)
    assert box.state["bundle"] == str(box.bundle)
    box("delete")


@pytest.mark.root
def test_bad_configurations(box: Any) -> None:
    """One clear line with the JSON path; tests/runtime/test_check.py has them all."""
    config = box.bundle / "config.json"
    for text, said in (
        ("", "not valid json"), ("[]", "expected an object"), ('{"process": 5}', "config.json: "), ("{" * 10000, "not valid json"),
        ('{"ociVersion": "1.2.0", "root": {"path": "rootfs"}, "process": {"cwd": "/", "args": []}}', "process.args"),
    ):  # fmt: skip
        config.write_text(text)
        done = box.oci("run", "run", "-b", box.bundle, box.id, code=1)
        assert said in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.root
def test_a_full_disk(box: Any, tmp_path: Path) -> None:
    """The state cannot be written: an error, and nothing is left."""
    state = tmp_path / "full"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k,mode=700", "tmpfs", state], check=True)
    try:
        (state / "ballast").write_bytes(b"x" * 4096)
        box.save()
        done = box.oci("run", "--root", state, "run", "-b", box.bundle, box.id, code=1)
        assert done.stderr.endswith("no space left on device\n")
        assert os.listdir(state) == ["ballast"]
    finally:
        subprocess.run(["umount", state], check=True)


@pytest.mark.root
def test_output_that_cannot_be_written(box: Any) -> None:
    box("create")
    with open("/dev/full", "w") as full:
        done = box("state", stdout=full, code=1)
    assert "no space left on device" in done.stderr
    box("delete")


@pytest.mark.root
def test_words_of_crun(box: Any, tmp_path: Path) -> None:
    """Another file than config.json, and no cgroups at all."""
    box.process["args"] = ["cat", "/proc/self/cgroup"]
    box.share("cgroup")
    box.save()
    (box.bundle / "config.json").rename(box.bundle / "other.json")
    words = ("--cgroup-manager", "disabled", "run", "-b", box.bundle, "--config", box.bundle / "other.json", box.id)
    assert box.id not in box.oci("run", *words).stdout
    said = box.oci("run", "run", "-b", box.bundle, box.id, code=1).stderr
    assert said == f"oci-run: cannot read '{box.bundle}/config.json': no such file or directory (oci-unpack makes bundles, oci-spec new a config.json)\n"
    (box.bundle / "other.json").rename(box.bundle / "config.json")


def test_debug_tells_the_plan_of_a_container(oci: Any, busybox: Path) -> None:
    done = oci("run", "--debug", "--network", "none", f"{busybox}:latest", "true")
    runcs = "nsexec container setup: bundle '", "child process in init()", "the container side says: init: closing the pipe"
    for told in (*runcs, "namespaces: ", "mount proc proc on /proc", "capabilities: CAP_CHOWN", "seccomp: ", "seccomp filter flags: 4"):
        assert f"oci-run: {told}" in done.stderr
