"""--call: what a Dockerfile offers, as BuildKit's subrequests tell it."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

pytestmark = [pytest.mark.root]

TEXT = """# FIRST_TAG is what we build on
ARG FIRST_TAG=1
FROM scratch AS base
# a comment for nobody

# tools are what the others need
FROM scratch AS tools
ARG UNUSED=x
# app this is the app
FROM base AS app
# VERSION of it
ARG VERSION=1.$FIRST_TAG
ARG FIRST_TAG
ARG TARGETARCH
RUN --mount=type=secret,id=token,required=true --mount=type=cache,target=/c --mount=type=secret,target=/run/other true
RUN --mount=type=ssh true
FROM app
"""


def at(*lines: int) -> Any:
    """A place as BuildKit's pb.Location has it: a range for each line."""
    return {"ranges": [{"start": {"line": line}, "end": {"line": line}} for line in lines]}


def test_targets(built: Any) -> None:
    lines = [line.split("\t") for line in built(TEXT, "--call", "targets").stdout.splitlines()]
    assert lines == [["base", "scratch", "", ""], ["tools", "scratch", "", "are what the others need"], ["app", "base", "", "this is the app"],
                     ["", "app", "default", ""]]  # fmt: skip
    whole = json.loads(built(TEXT, "--call=targets,format=json").stdout)
    found = whole["targets"]
    assert found[2] == {"name": "app", "description": "this is the app", "base": "base", "location": at(10)}
    assert found[3] == {"default": True, "base": "app", "location": at(17)}
    assert [base64.b64decode(each) for each in whole["sources"]] == [TEXT.encode()]


def test_outline(built: Any) -> None:
    words = ["--call=outline", "--target", "app", "--build-arg", "FIRST_TAG=7"]
    assert built(TEXT, *words).stdout.splitlines() == [
        "arg\tFIRST_TAG\t7\tis what we build on", "arg\tVERSION\t1.\tof it", "secret\ttoken\trequired", "secret\tother\t",
        "ssh\tdefault\t", "cache\t/c",
    ]  # fmt: skip
    said = json.loads(built(TEXT, "--call", "outline,format=json", "--target", "app").stdout)
    assert said["secrets"] == [{"name": "token", "required": True, "location": at(15)}, {"name": "other", "location": at(15)}]
    assert said["cache"] == [{"ID": "/c", "location": at(15)}] and said["ssh"] == [{"name": "default", "location": at(16)}]
    assert [each["location"] for each in said["args"]] == [at(13), at(12)] and len(said["sources"]) == 1
    split = json.loads(built("FROM scratch\nARG \\\n A=1\n", "--call", "outline,format=json").stdout)
    assert split["args"] == [{"name": "A", "value": "1", "location": at(2, 3)}]
    assert said["name"] == "app" and said["description"] == "this is the app" and said["args"][0]["value"] == "1"


def test_words_of_call(built: Any) -> None:
    assert built("FROM BASE AS b\nCMD x\n", "--call", "check", code=1).stdout.startswith("Dockerfile:2:1: JSONArgsRecommended")
    found = json.loads(built("FROM BASE AS b\nCMD x\n", "--call", "check,format=json", code=1).stdout)
    assert [one["ruleName"] for one in found["warnings"]] == ["JSONArgsRecommended"]
    assert "invalid value for --call" in built("FROM BASE\n", "--call", "no", code=2).stderr
