"""What `--help` shows of commands that have more options or verbs than a screen has lines; `--help-all` shows all.

    OPTIONS   the whole name of a command -> lines "Title: -x --name ...", a section each, options by one of their names
    VERBS     a command with verbs -> those that are told with what they do; the others are named
"""

from __future__ import annotations

_SPEC = """\
Usual: -e -w -u --entrypoint -v --tmpfs --network -h
Safety: --userns --read-only --cap-add --cap-drop --device --privileged
Limits: -m --cpus --pids-limit
"""
_MADE = """\
Usual: -i -t --rm --name -e -v -p --network -w -u --pull
Safety: --userns --read-only --cap-add --cap-drop --device --privileged
More: -m --cpus --pids-limit --restart
"""

OPTIONS = {
    "oci-run": """\
Before IMAGE: -i -t -d --rm --name -e -v -p --network
Before VERB: --root --debug""",
    "oci-run new": _MADE,
    "oci-spec new": f"{_SPEC}Image: --platform --rootless",
    "oci-spec set": _SPEC,
    "oci-ctl": "Options: -H --context --tlsverify --debug",
    "oci-ctl run": _MADE.replace("--rm", "-d --rm"),
    "oci-ctl create": _MADE,
    "oci-build": """\
What: -f --script --target --build-arg --build-context --secret
Result: -t -o --push
Cache: --no-cache --pull --cache-from --cache-to --prune
Telling: -q --progress --check --why --depfile""",
    "oci-pack": """\
What: --base --append --mask --layers --squash --compression --level --platform
Image: -e --entrypoint --cmd -u -w -l --expose --volume --author""",
    "oci-pull": """\
What: --platform --all-platforms --all-tags --match --referrers --verify-key --unpack --dry-run
Registry: --login --username --logout --tls-verify --cert-dir --retries -j
Telling: --progress --describe""",
    "oci-push": """\
What: --platform -t --no-clobber --referrers --sign-key --format --compress --delete
Registry: --tls-verify --cert-dir --authfile --retries -j
Telling: --progress""",
    "oci-registry serve": """\
What: --listen --read-only --delete --upstream --gc --retention --access-log --metrics
Who: --tls-cert --tls-key --htpasswd --ldap --oidc --rules --anonymous-read --auth""",
}
VERBS = {
    "oci-run": "list logs exec stop start rm wait cp attach restart stats new run",
    "oci-ctl": "run ps logs exec stop start restart rm inspect stats cp wait images pull push build tag rmi "
               "network volume system context kube",
}  # fmt: skip


def sections(name: str) -> list[tuple[str, list[str]]]:
    """(title, options) of each section of a command's help; none where all of it is shown."""
    rows = (line.partition(": ") for line in OPTIONS.get(name, "").splitlines())
    return [(title, names.split()) for title, _, names in rows]
