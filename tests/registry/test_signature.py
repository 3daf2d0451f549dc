"""Signatures: ours that cosign accepts, cosign's that we accept, and what must not be accepted."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.peers import MANIFEST, Answer, Fake, descriptor

PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
CURVES = {
    "p256": ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "p384": ["ec", "-pkeyopt", "ec_paramgen_curve:P-384"],
    "rsa": ["rsa", "-pkeyopt", "rsa_keygen_bits:2048"],
    "ed25519": ["ed25519"],
}
pytestmark = pytest.mark.needs("openssl")


def key(directory: Path, name: str = "one", kind: str = "p256") -> Path:
    """A private key, NAME.key; its public one, NAME.pub, is beside it."""
    made = directory / f"{name}.key"
    subprocess.run(["openssl", "genpkey", "-algorithm", *CURVES[kind], "-out", made], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", made, "-pubout", "-out", directory / f"{name}.pub"], check=True)
    return made


def cosign(*words: str | Path, home: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    env = {"PATH": "/usr/bin:/bin", "HOME": str(home), "COSIGN_PASSWORD": "pw"}
    done = subprocess.run(["cosign", *words], capture_output=True, text=True, env=env, cwd=home)
    assert bool(done.returncode) == bool(code), done.stderr
    return done


def verified(ref: str, public: Path | str, home: Path, code: int = 0) -> str:
    words = ["verify", "--key", str(public), "--insecure-ignore-tlog", "--allow-http-registry", ref]
    return cosign(*words, home=home, code=code).stdout


@pytest.mark.needs("cosign")
@pytest.mark.parametrize("kind", CURVES)
def test_cosign_accepts_what_we_sign(oci: Any, registry: Any, tmp_path: Path, busybox: Path, kind: str) -> None:
    key(tmp_path, kind=kind)
    key(tmp_path, "other")
    ref = f"{registry.host}/team/app:v1"
    said = oci("push", "--sign-key", "one.key", f"{busybox}:latest", ref).stdout.strip()
    (found,) = json.loads(verified(ref, tmp_path / "one.pub", tmp_path))
    assert found["critical"]["image"]["docker-manifest-digest"] == said.partition("@")[2]
    assert found["critical"]["identity"]["docker-reference"] == f"{registry.host}/team/app"
    verified(ref, tmp_path / "other.pub", tmp_path, code=1)
    oci("pull", "--verify-key", "one.pub", ref, "./img")
    oci("pull", "--verify-key", "other.pub", "--verify-key", "one.pub", said, "./img")
    assert "image is not signed" in oci("pull", "--verify-key", "other.pub", ref, "./img", code=1).stderr


@pytest.mark.needs("cosign")
def test_we_accept_what_cosign_signs(oci: Any, registry: Any, tmp_path: Path, busybox: Path) -> None:
    cosign("generate-key-pair", home=tmp_path)
    key(tmp_path)
    ref = oci("push", f"{busybox}:latest", f"{registry.host}/app:v1").stdout.strip()
    words = ("pull", "--verify-key", "cosign.pub", f"{registry.host}/app:v1", "./img")
    assert "image is not signed" in oci(*words, code=1).stderr and not (tmp_path / "img").exists()
    cosign("sign", "--yes", "--key", "cosign.key", "--tlog-upload=false", "--allow-http-registry", ref, home=tmp_path)
    oci(*words)
    for _ in range(2):  # a second signature beside the first, once
        oci("push", "--sign-key", "one.key", f"{busybox}:latest", f"{registry.host}/app:v1")
    for name in ("cosign.pub", "one.pub"):
        assert len(json.loads(verified(ref, tmp_path / name, tmp_path))) == 1
        oci("pull", "--verify-key", name, f"{registry.host}/app:v1", "./img")
    tag = ref.partition("@")[2].replace(":", "-") + ".sig"
    oci("pull", f"{registry.host}/app:{tag}", "./sig")
    (entry,) = json.loads((tmp_path / "sig/index.json").read_text())["manifests"]
    found = json.loads((tmp_path / "sig/blobs" / entry["digest"].replace(":", "/")).read_text())
    assert len(found["layers"]) == 2


@pytest.mark.needs("cosign")
def test_private_keys(oci: Any, registry: Any, tmp_path: Path, busybox: Path) -> None:
    cosign("generate-key-pair", home=tmp_path)
    key(tmp_path)
    words = ["openssl", "pkcs8", "-topk8", "-in", tmp_path / "one.key", "-out", tmp_path / "locked.key", "-passout", "pass:pw"]
    subprocess.run(words, check=True)
    (tmp_path / "bad.key").write_text("no key")
    push = (f"{busybox}:latest", f"{registry.host}/app")
    for name, env, said in (
        ("none.key", {}, "cannot read key 'none.key'"),
        ("bad.key", {}, "cannot use key 'bad.key'"),
        ("one.pub", {}, "cannot use key 'one.pub'"),
        ("cosign.key", {}, "it is encrypted (COSIGN_PASSWORD"),
        ("cosign.key", {"COSIGN_PASSWORD": "no"}, "cannot use key 'cosign.key': the password is wrong"),
        ("cosign.key", {"COSIGN_PASSWORD": ""}, "cannot use key 'cosign.key': the password is wrong"),
        ("locked.key", {}, "it is encrypted (COSIGN_PASSWORD"),
        ("locked.key", {"COSIGN_PASSWORD": "no"}, "cannot use key 'locked.key'"),
    ):
        done = oci("push", "--sign-key", name, *push, env=env, code=1)
        assert said in done.stderr and done.stderr.count("\n") == 1
    assert not list(registry.dir.glob("app*")), "nothing is pushed that cannot be signed"
    oci("push", "--sign-key", "locked.key", *push, env={"COSIGN_PASSWORD": "pw"})
    oci("pull", "--verify-key", "one.pub", push[1], "./img")
    verified(push[1], "one.pub", tmp_path)
    assert "signs in a registry" in oci("push", "--sign-key", "one.key", push[0], "./x", code=2).stderr


@pytest.mark.needs("cosign")
def test_keys_that_cosign_made(oci: Any, registry: Any, tmp_path: Path, busybox: Path) -> None:
    cosign("generate-key-pair", home=tmp_path)
    ref = f"{registry.host}/app:v1"
    said = oci("push", "--sign-key", "cosign.key", f"{busybox}:latest", ref, env={"COSIGN_PASSWORD": "pw"}).stdout
    (found,) = json.loads(verified(ref, "cosign.pub", tmp_path))
    assert found["critical"]["image"]["docker-manifest-digest"] == said.strip().partition("@")[2]
    oci("pull", "--verify-key", "cosign.pub", ref, "./img")


@pytest.mark.needs("cosign")
def test_keys_of_cosign_that_are_damaged(oci: Any, registry: Any, tmp_path: Path, busybox: Path) -> None:
    cosign("generate-key-pair", home=tmp_path)
    text = (tmp_path / "cosign.key").read_text().splitlines()
    good = json.loads(base64.b64decode("".join(text[1:-1])))

    def changed(part: str, name: str, value: Any) -> bytes:
        return json.dumps({**good, part: {**good[part], name: value}}).encode()

    box = bytearray(base64.b64decode(good["ciphertext"]))
    box[20] ^= 1
    cases = [
        (b"no json", "not valid json"),
        (b"[]", "its form is not cosign's"),
        (json.dumps({**good, "ciphertext": base64.b64encode(box).decode()}).encode(), "or the key is damaged"),
        (json.dumps({**good, "ciphertext": ""}).encode(), "or the key is damaged"),
        (changed("cipher", "nonce", "AAAA"), "or the key is damaged"),
        (changed("cipher", "name", "rot13"), "locked by scrypt and rot13"),
        (changed("kdf", "params", {"N": 1 << 40, "r": 8, "p": 1}), "its form is not cosign's"),  # memory of all the world
        (changed("kdf", "params", {"N": "x", "r": 8, "p": 1}), "its form is not cosign's"),
        (changed("kdf", "salt", 7), "its form is not cosign's"),
    ]
    for data, said in cases:
        body = base64.b64encode(data).decode()
        (tmp_path / "bad.key").write_text("\n".join([text[0], body, text[-1], ""]))
        words = ("--sign-key", "bad.key", f"{busybox}:latest", f"{registry.host}/app")
        done = oci("push", *words, env={"COSIGN_PASSWORD": "pw"}, code=1)
        assert said in done.stderr and done.stderr.count("\n") == 1, (data, done.stderr)


def test_an_index_or_what_is_chosen_of_it(oci: Any, registry: Any, tmp_path: Path) -> None:
    from tests.peers import INDEX
    from tests.registry.test_push import Layout

    key(tmp_path)
    layout = Layout(tmp_path / "img")
    parts = [{**layout.image("", arch.encode(), annotations={"a": arch}), "platform": {"os": "linux", "architecture": arch}} for arch in ("amd64", "arm64")]
    layout.tag("multi", layout.put({"schemaVersion": 2, "mediaType": INDEX, "manifests": parts}, INDEX))
    word, verify = f"{registry.host}/a:multi", ("pull", "--verify-key", "one.pub")
    oci("push", "./img:multi", word)
    oci("push", "--sign-key", "one.key", "--platform", "arm64", "./img:multi", f"{registry.host}/a:arm")
    oci(*verify, "--platform", "arm64", word, "./arm")
    oci(*verify, "--platform", "amd64", word, "./amd", code=1)
    oci(*verify, "--platform", "amd64", "--platform", "arm64", word, "./both", code=1)
    oci(*verify, "--all-platforms", word, "./all", code=1)
    oci("push", "--sign-key", "one.key", "./img:multi", word)
    for more in (["--platform", "amd64"], ["--platform", "amd64", "--platform", "arm64"], ["--all-platforms"], []):
        oci(*verify, *more, word, "./good")
    oci(*verify, word, "oci-archive:x.tar")
    assert "not signed" in oci(*verify, "oci-archive:x.tar", "./y", code=1).stderr
    assert "not signed" in oci(*verify, "./good", "./y", code=1).stderr


def test_what_is_here_already_is_verified_too(oci: Any, registry: Any, tmp_path: Path, busybox: Path) -> None:
    key(tmp_path)
    ref = oci("push", f"{busybox}:latest", f"{registry.host}/a").stdout.strip()
    oci("pull", ref)
    oci("pull", ref)
    assert "not signed" in oci("pull", "--verify-key", "one.pub", ref, code=1).stderr


# -- signatures that are none ----------------------------------------------------------------


def signed(directory: Path, about: str, **critical: Any) -> tuple[bytes, str]:
    """A payload about a digest, and its good signature."""
    said = {"identity": {"docker-reference": "x/y"}, "image": {"docker-manifest-digest": about}, "type": "cosign container image signature"}
    payload = json.dumps({"critical": {**said, **critical}, "optional": None}).encode()
    sign = ["openssl", "dgst", "-sha256", "-sign", directory / "one.key"]
    made = subprocess.run(sign, input=payload, check=True, capture_output=True).stdout
    return payload, base64.b64encode(made).decode()


def offer(fake: Fake, image: dict[str, Any], payload: bytes, signature: Any, count: int = 1, **more: Any) -> None:
    fake.blob("app", payload)
    fake.blob("app", b"{}")
    layer = {**descriptor(PAYLOAD, payload), "annotations": {"dev.cosignproject.cosign/signature": signature}, **more}
    found = {"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor("x/y", b"{}"), "layers": [layer] * count}
    fake.manifest("app", image["digest"].replace(":", "-") + ".sig", found)


def test_hostile_signatures(oci: Any, tmp_path: Path) -> None:
    key(tmp_path)
    with Fake() as fake:
        image, other = fake.image("app", "v1", [b"layer"]), fake.image("app", "v2", [b"other"])
        pull = ("pull", "--verify-key", "one.pub", "--retries=0", f"{fake.host}/app:v1", "./img")
        payload, good = signed(tmp_path, image["digest"])
        offer(fake, image, payload, good)
        oci(*pull)
        bad = bytearray(base64.b64decode(good))
        bad[-1] ^= 1
        elsewhere = signed(tmp_path, other["digest"])
        for made in (
            (payload + b" ", good),
            (payload, base64.b64encode(bad).decode()),
            (payload, ""), (payload, "%%%"), (payload, 5), (payload, [good]),
            elsewhere,
            signed(tmp_path, image["digest"], type="atomic container signature"),
            signed(tmp_path, image["digest"], identity={}),
            signed(tmp_path, image["digest"], image=None),
        ):  # fmt: skip
            offer(fake, image, *made)
            assert "image is not signed" in oci(*pull, code=1).stderr
        offer(fake, image, payload, good, mediaType="text/plain")
        assert "image is not signed" in oci(*pull, code=1).stderr
        offer(fake, image, payload, good, 101)
        assert "more than 100 signatures" in oci(*pull, code=1).stderr
        offer(fake, image, payload, good, size=2 << 20)
        assert "larger than" in oci(*pull, code=1).stderr
        offer(fake, image, payload, good)
        fake.on("GET", fake.blob("app", payload), Answer(200, {}, payload[:-1] + b" "))
        assert "wrong digest" in oci(*pull, code=1).stderr
        fake.on("GET", f"/v2/app/manifests/{image['digest'].replace(':', '-')}.sig", Answer(503))
        assert "answers 503" in oci(*pull, code=75).stderr
        assert "cannot read key" in oci("pull", "--verify-key", "none", f"{fake.host}/app:v1", code=1).stderr
        (tmp_path / "bad.pub").write_text("x")
        assert "cannot use key" in oci("pull", "--verify-key", "bad.pub", f"{fake.host}/app:v1", code=1).stderr


# -- policy.json --------------------------------------------------------------------------------


def test_policies(oci: Any, registry: Any, tmp_path: Path, busybox: Path) -> None:
    key(tmp_path)
    key(tmp_path, "other")
    host = registry.host
    ref = oci("push", "--sign-key", "one.key", f"{busybox}:latest", f"{host}/team/app:v1").stdout.strip()
    oci("push", f"{busybox}:latest", f"{host}/free:v1")
    sig = ref.partition("@")[2].replace(":", "-") + ".sig"
    oci("pull", f"{host}/team/app:{sig}", "./sig")
    oci("push", "./sig", f"{host}/mirror/app:{sig}")
    mirrored = oci("push", f"{busybox}:latest", f"{host}/mirror/app:v1").stdout.strip()
    policy = tmp_path / "home/.config/containers/policy.json"
    policy.parent.mkdir(parents=True)
    ok, no = [{"type": "insecureAcceptAnything"}], [{"type": "reject"}]

    def by(name: str, kind: Any = "matchRepository", **more: Any) -> dict[str, Any]:
        identity = {"type": kind} if isinstance(kind, str) else kind
        return {"type": "sigstoreSigned", "keyPath": str(tmp_path / f"{name}.pub"), "signedIdentity": identity, **more}

    data = {"type": "sigstoreSigned", "keyData": base64.b64encode((tmp_path / "one.pub").read_bytes()).decode()}
    exact = {"type": "exactRepository", "dockerRepository": f"{host}/team/app"}

    def judged(word: str, said: str, default: Any, **scopes: Any) -> None:
        policy.write_text(json.dumps({"default": default, "transports": {"docker": scopes} if scopes else {}}))
        done = oci("pull", word, "./img", code=1 if said else 0)
        assert said in done.stderr and done.stderr.count("\n") <= 1

    tag = f"{host}/team/app:v1"
    judged(tag, "image is rejected", no)
    judged(tag, "", no, **{f"{host}/team": ok})
    judged(tag, "image is rejected", ok, **{f"{host}/team": ok, tag: no})
    judged(tag, "", no, **{"": ok})
    judged(tag, "", [by("one")])
    judged(tag, "image is not signed", [by("other")])
    judged(tag, "image is not signed", [by("one"), by("other")])
    judged(tag, "image is not signed", [by("one", "matchExact")])
    judged(tag, "image is not signed", [data])
    judged(ref, "", [data])
    judged(tag, "", [by("one", exact)])
    judged(tag, "image is not signed", [by("one", {**exact, "dockerRepository": f"{host}/team/b"})])
    judged(f"{host}/free:v1", "image is not signed", [by("one")])
    remap = {"type": "remapIdentity", "prefix": f"{host}/mirror", "signedPrefix": f"{host}/team"}
    judged(mirrored, "", [by("one", remap)])
    judged(mirrored, "image is not signed", [by("one", "matchRepoDigestOrExact")])
    judged(mirrored, "image is not signed", [by("one", {**remap, "prefix": f"{host}/mir"})])
    judged(mirrored, "image is not signed", [by("one", {**remap, "signedPrefix": f"{host}/others"})])
    judged(mirrored, "policy", [by("one", {**remap, "signedPrefix": ""})])
    for wrong in ([], {}, [{}], [{"type": "signedBy"}], [by("one", "strange")], [by("one", {})], [by("one", fulcio={})],
                  [by("one", {"type": "exactRepository"})], [{"type": "sigstoreSigned"}], [{**data, "keyData": "x"}], None):  # fmt: skip
        judged(tag, "policy", wrong)
    policy.write_text("nonsense")
    assert "policy.json" in oci("pull", tag, "./img", code=1).stderr
    (tmp_path / "p.json").write_text(json.dumps({"default": ok}))
    oci("pull", "--policy", "p.json", tag, "./img")
    assert "not signed" in oci("pull", "--policy", "p.json", "--verify-key", "other.pub", tag, "./img", code=1).stderr
    assert "cannot" in oci("pull", "--policy", "none.json", tag, "./img", code=1).stderr
    policy.write_text(json.dumps({"default": no, "transports": {"oci": {"": ok}}}))
    oci("pull", "./img", "./copy")
    oci("push", "./img", "oci-archive:x.tar")
    assert "image is rejected" in oci("pull", "oci-archive:x.tar", "./copy", code=1).stderr


@pytest.mark.needs("cosign", "skopeo")
def test_signatures_travel_with_their_image(oci: Any, registry: Any, tmp_path: Path, busybox: Path) -> None:
    """By --referrers, under the tags that cosign gives them: into a layout, the store, archives, and on."""
    key(tmp_path)
    ref = f"{registry.host}/team/app"
    oci("push", f"{busybox}:latest", f"{ref}:v1")
    made = oci("push", "--sign-key", "one.key", f"{busybox}:latest", f"{ref}:v1").stdout.strip().partition("@")[2]
    tag = f"{made.replace(':', '-')}.sig"
    oci("pull", f"{ref}:v1", "./bare")
    assert tag not in oci("image", "ls", "./bare").stdout
    oci("pull", "--referrers", f"{ref}:v1", "./img")
    assert [line.split("\t")[0] for line in oci("image", "ls", "./img").stdout.splitlines()] == ["v1", tag]
    assert "simplesigning" in oci("image", "tree", "./img:v1").stdout
    assert oci("image", "inspect", "./img").stdout == oci("image", "inspect", "./img:v1").stdout  # there is one image
    oci("image", "fsck", "./img")
    oci("pull", "--referrers", f"{ref}:v1")
    assert f"{ref}:{tag}\t" in oci("image", "ls").stdout
    assert len(oci("image", "referrers", f"{ref}:v1").stdout.splitlines()) == 1
    oci("pull", "--referrers", f"{ref}:v1", "oci-archive:a.tar")
    oci("image", "load", "a.tar", "./loaded")
    for at, source in enumerate(("./img:v1", f"{ref}:v1", "./loaded:v1")):
        oci("push", "--referrers", source, f"{registry.host}/copy{at}:v1")
        oci("pull", "--verify-key", "one.pub", f"{registry.host}/copy{at}:v1", f"./out{at}")
        verified(f"{registry.host}/copy{at}:v1", tmp_path / "one.pub", tmp_path)
        tags = json.loads(subprocess.run(["skopeo", "list-tags", "--tls-verify=false", f"docker://{registry.host}/copy{at}"],
                                         capture_output=True, check=True).stdout)["Tags"]  # fmt: skip
        assert tags == [tag, "v1"]
        oci("push", "--delete", f"{registry.host}/copy{at}:{tag}")
        oci("push", source, f"{registry.host}/copy{at}:v1")
        assert "is not signed" in oci("pull", "--verify-key", "one.pub", f"{registry.host}/copy{at}:v1", code=1).stderr
