"""--check: BuildKit's rules by their names, one by one."""

from __future__ import annotations

import base64
import inspect
import json
import re
from typing import Any

import pytest

from oci_tools.build import lint, results
from oci_tools.build.dockerfile import Dockerfile
from oci_tools.build.ignore import Patterns
from oci_tools.build.position import Wrong
from oci_tools.build.scope import Scope

HOST = {"os": "linux", "architecture": "amd64"}
ALL = "# check=experimental=all\n"


def said(text: str, base: dict[str, str] | None = None, ignored: tuple[str, ...] = ()) -> list[str]:
    dockerfile = Dockerfile(text.encode(), "Dockerfile")
    scope = Scope(dockerfile, {"GIVEN": "1"}, HOST)
    found = lint.lint(dockerfile, scope, lambda name: base, Patterns(ignored))
    return [str(one).removeprefix("Dockerfile:") for one in found]


@pytest.mark.parametrize(
    "text, wanted",
    {
        "FROM a AS Upper": "1:11: StageNameCasing: Stage name 'Upper' should be lowercase",
        "FROM a as b": "1:7: FromAsCasing: 'as' and 'FROM' keywords' casing do not match",
        "from a AS b": "1:7: FromAsCasing: 'AS' and 'from' keywords' casing do not match",
        "FROM a\nRUN x \\\n\n  y": "4:3: NoEmptyContinuation: Empty continuation line",
        "FROM a\nrun x\nRUN y": "2:1: ConsistentInstructionCasing: Command 'run' should match the case of the command majority (uppercase)",
        "from a\nrun x\nRun y": "3:1: ConsistentInstructionCasing: Command 'Run' should match the case of the command majority (lowercase)",
        "FROM a AS b\nFROM c AS b": '2:11: DuplicateStageName: Duplicate stage name "b", stage names should be unique',
        "FROM a AS scratch": '1:11: ReservedStageName: Stage name should not use the same name as reserved stage "scratch"',
        "FROM a\nCMD x": "2:1: JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
        "FROM a\nENTRYPOINT x": "2:1: JSONArgsRecommended: JSON arguments recommended for ENTRYPOINT to prevent unintended behavior related to OS signals",
        "FROM a\nMAINTAINER x": "2:1: MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label",
        "ARG VERSION=1\nFROM a:${VERSON}": "2:10: UndefinedArgInFrom: FROM argument 'VERSON' is not declared (did you mean VERSION?)",
        "FROM a\nWORKDIR b/c": '2:9: WorkdirRelativePath: Relative workdir "b/c" can have unexpected results if the base image changes',
        "FROM a\nCOPY $FOO /x": "2:7: UndefinedVar: Usage of undefined variable '$FOO'",
        "FROM a\nARG DIR_BINARIES=x\nCOPY ${DIR_ASSETS} $DIR_BINARES /": "3:21: UndefinedVar: Usage of undefined variable '$DIR_BINARES' (did you mean $DIR_BINARIES?)",
        "FROM a\nENV P=$PAHT:x": "2:8: UndefinedVar: Usage of undefined variable '$PAHT' (did you mean $PATH?)",
        'FROM a\nCMD ["a"]\nCMD ["b"]': "2:1: MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage because only the last one will be used",
        "FROM a\nHEALTHCHECK CMD a\nHEALTHCHECK NONE": "2:1: MultipleInstructionsDisallowed: Multiple HEALTHCHECK instructions should not be used in the same stage because only the last one will be used",
        "FROM a\nENV b c": '2:1: LegacyKeyValueFormat: "ENV key=value" should be used instead of legacy "ENV key value" format',
        "FROM a\nLABEL b c": '2:1: LegacyKeyValueFormat: "LABEL key=value" should be used instead of legacy "LABEL key value" format',
        "FROM --platform=$TARGETPLATFORM a": "1:17: RedundantTargetPlatform: Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
        "FROM --platform=linux/arm64 a": '1:17: FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value "linux/arm64"',
        "FROM a\nARG API_TOKEN": '2:5: SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG "API_TOKEN")',
        "FROM a\nENV password=x": '2:5: SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV "password")',
        "ARG TAG\nFROM a:$TAG": "2:6: InvalidDefaultArgInFrom: Default value for ARG a:$TAG results in empty or invalid base image name",
        "FROM a\nEXPOSE 80/TcP": "2:8: ExposeProtoCasing: Defined protocol '80/TcP' in EXPOSE instruction should be lowercase",
        "FROM a\nEXPOSE 127.0.0.1:80:80": "2:8: ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80'",
        ALL + "FROM a\nCOPY secret.txt /": '3:6: CopyIgnoredFile: Attempting to Copy file "secret.txt" that is excluded by .dockerignore',
        ALL + "# else\nFROM a AS b": "3:1: InvalidDefinitionDescription: Comment for FROM should follow the format: `# b <description>`",
    }.items(),
    ids=lambda value: value.partition(": ")[2].partition(":")[0] if ": " in value else "",
)  # fmt: skip
def test_a_rule(text: str, wanted: str) -> None:
    assert wanted in said(text, {}, ("secret.txt",))


@pytest.mark.parametrize(
    "text",
    [
        "FROM a AS b\nRUN x\n# comment \\\nCOPY a b\n",
        "from a as b\nrun x\ncopy a b",
        "ARG V=1\nFROM a:$V\nFROM b:${GIVEN:-2}",
        "ARG V\nFROM a:${V:-1}",
        "FROM a\nWORKDIR /x\nWORKDIR y",
        "FROM a AS b\nWORKDIR /x\nFROM b\nWORKDIR y",
        'FROM a\nSHELL ["/bin/bash", "-c"]\nCMD x',
        "FROM a\nARG X\nCOPY $X /$GIVE_ME_DEFAULT_/..",
        "FROM a\nRUN echo $ANY\nCMD [\"$ANY\"]\nONBUILD RUN $ANY",
        "FROM a\nENV A=b\nCOPY $A/${HTTP_PROXY} ${NO:-x} /",
        "FROM a\nENV PUBLIC_KEY=x GPG_KEY_FILE=y AUTHOR=z KEYS=a",
        "FROM a\nCOPY ${NOT_KNOWN} /",
        "FROM --platform=$BUILDPLATFORM a\nFROM --platform=linux/arm64 b AS for-arm64",
        "FROM a\nCOPY secret.txt.d /",
        "FROM a AS one\nCMD [\"x\"]\nFROM one\nCMD [\"y\"]",
        "FROM a\nCOPY <<'E' /x\n$NOT\nE",
    ],
)
def test_nothing_to_say(text: str) -> None:
    base = None if "NOT_KNOWN" in text or "GIVE_ME" in text else {}
    assert said(text, base, ("secret.txt",)) == []


def test_variables_are_those_of_the_base() -> None:
    text = "FROM a\nCOPY $OF_BASE /\nCOPY $OF_BAZE /"
    assert said(text, {"OF_BASE": "x"}) == ["3:7: UndefinedVar: Usage of undefined variable '$OF_BAZE' (did you mean $OF_BASE?)"]


def test_the_directive() -> None:
    text = "FROM a as B\nCMD x\nMAINTAINER y"
    rules = {"StageNameCasing", "FromAsCasing", "JSONArgsRecommended", "MaintainerDeprecated"}
    assert {line.split(": ")[1] for line in said(text)} == rules
    assert {line.split(": ")[1] for line in said("# check=skip=StageNameCasing,fromascasing\n" + text)} == {
        "JSONArgsRecommended", "MaintainerDeprecated",
    }  # fmt: skip
    assert said("# check=skip=all;error=true\n" + text) == []
    with pytest.raises(Wrong, match="Dockerfile:1:9: invalid check option 'skip'"):
        said("# check=skip\n" + text)


@pytest.mark.parametrize(
    "patterns, source, said",
    [
        (["sub"], "sub/a.txt", True),
        (["sub"], "other.txt", False),
        (["sub", "!sub/b.txt"], "sub/a.txt", True),
        (["sub", "!other/*.txt"], "sub/a.txt", True),
        (["!sub/b.txt", "sub"], "sub/a.txt", True),
        (["sub", "!sub/keep.txt"], "sub", False),
        (["sub", "!sub/nested/keep.txt"], "sub", False),
        (["sub", "!sub/*.txt"], "sub", False),
        (["sub", "!*/keep.txt"], "sub", False),
        (["sub", "!sub/keep.txt"], "sub/*.txt", False),
        (["sub", "!sub/keep.txt"], "*/keep.txt", False),
        (["sub", "!sub/keep.txt"], "sub/keep.txt", False),
        (["su.b", "!su\\.b/keep.txt"], "su.b", False),
        (["**", "!sub"], "sub/a.txt", False),
        ([".*"], ".", False),
        (["*"], ".", True),
        (["**"], "./", True),
        (["*"], "*.txt", True),
        (["*", "!sub"], ".", False),
        (["*", "!sub"], "*", False),
        (["*", "!sub"], "a*", False),
        (["sub"], "./sub//x/../a.txt", True),
    ],
)
def test_a_file_that_is_ignored(patterns: list[str], source: str, said: bool) -> None:
    """As BuildKit: where an exception may show something of it, nobody knows."""
    dockerfile = Dockerfile(f"FROM scratch\nCOPY {source} /\n".encode(), "Dockerfile")
    found = lint.lint(dockerfile, Scope(dockerfile, {}, HOST), lambda name: {}, Patterns(patterns))
    assert [one.rule for one in found] == ["CopyIgnoredFile"] * said


@pytest.mark.root
def test_check_builds_nothing(oci: Any, built: Any) -> None:
    done = built("FROM BASE\nRUN false\nCMD x\n", "--check", code=1)
    assert done.stdout == (
        "Dockerfile:3:1: JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related"
        " to OS signals\n"
    )
    assert built("FROM BASE\nRUN false\n", "--check").stdout == ""
    assert "Dockerfile:2:1: unknown instruction: RUNN (did you mean RUN?)" in built("FROM BASE\nRUNN x", "--check", code=1).stderr


@pytest.mark.root
def test_check_as_json(built: Any) -> None:
    """As BuildKit's LintResults: its linter.Warning and pb.Location, whose zeros are left out."""
    text = "FROM BASE AS b\nRUN x \\\n  y\nCMD x \\\n  y\n"
    found = json.loads(built(text, "--check", "--call", "check,format=json", code=1).stdout)
    one = found["warnings"][0]
    assert len(found["warnings"]) == 1 and list(found) == ["warnings", "sources"] and one.pop("description")
    assert one == {
        "ruleName": "JSONArgsRecommended", "url": "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/",
        "detail": "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
        "location": {"ranges": [{"start": {"line": line}, "end": {"line": line}} for line in (4, 5)]},
    }  # fmt: skip
    source = found["sources"][0]
    assert (source["fileName"], source["language"]) == ("Dockerfile", "Dockerfile")
    assert base64.b64decode(source["data"]).startswith(b"FROM ") and base64.b64decode(source["data"]).endswith(b"  y\n")
    assert json.loads(built("FROM BASE\n", "--call", "check,format=json").stdout)["warnings"] == []


@pytest.mark.root
@pytest.mark.parametrize("text, line, rules", [("FROM BASE AS Up\nRUNN x\n", 2, ["StageNameCasing"]), ("RUNN x\n", 1, [])])
def test_an_error_as_json(built: Any, text: str, line: int, rules: list[str]) -> None:
    done = built(text, "--call", "check,format=json", code=1)
    found = json.loads(done.stdout)
    assert [one["ruleName"] for one in found["warnings"]] == rules
    assert found["buildError"] == {
        "message": "unknown instruction: RUNN (did you mean RUN?)",
        "location": {"ranges": [{"start": {"line": line}, "end": {"line": line}}]},
    }
    assert b"RUNN x\n" in base64.b64decode(found["sources"][0]["data"]) and f"Dockerfile:{line}:1: unknown" in done.stderr


def test_every_rule_has_an_address() -> None:
    """As Docker's pages of rules have them."""
    address = results.address
    assert address("JSONArgsRecommended").endswith("/rule/json-args-recommended/")
    assert address("SecretsUsedInArgOrEnv").endswith("/rule/secrets-used-in-arg-or-env/")
    said = set(re.findall(r'"([A-Z]\w+)", (?:one|start|stage\.start)', inspect.getsource(lint)))
    assert said == set(results.DESCRIPTIONS)


@pytest.mark.root
def test_a_build_tells_and_may_end_of_it(built: Any) -> None:
    text = "FROM BASE\nCMD x\n"
    assert "warning: Dockerfile:2:1: JSONArgsRecommended" in built(text, "--progress", "plain").stderr
    failed = built("# check=error=true\n" + text, code=1).stderr.splitlines()
    assert failed[-1] == "oci-build: Dockerfile:3:1: lint violation found for rules: JSONArgsRecommended"


# As BuildKit's own tests have them: a Dockerfile, what is said of it by line, and a build argument.
OF_BUILDKIT: list[tuple[str, dict[int, str | list[str]], dict[str, str]]] = [
    ("# check=experimental=InvalidDefinitionDescription\n# foo this is the foo\nARG foo=bar\n\n# base this is the base image\nFROM scratch AS base\n\n"
     "# version this is the version number\nARG version=latest\n\n# baz this is the baz\nARG foo=baz bar=qux baz=quux\n#\nARG bit=bat\n\n"
     "# comment for something other than ARG or FROM\nCOPY Dockerfile .\n", {}, {}),
    ("# check=experimental=InvalidDefinitionDescription\n# bar this is the bar\nARG foo=bar\n# BasE this is the BasE image\nFROM scratch AS base\n"
     "# definitely a bad comment\nARG version=latest\n# definitely a bad comment\nARG foo=baz bar=qux baz=quux\n",
     {3: "Comment for ARG should follow the format: `# foo <description>`", 5: "Comment for FROM should follow the format: `# base <description>`",
      7: "Comment for ARG should follow the format: `# version <description>`", 9: "Comment for ARG should follow the format: `# <arg_key> <description>`"}, {}),
    ("# check=skip=CopyIgnoredFile\nFROM scratch\nCOPY ignored .\nADD ignored /windy\n", {}, {}),
    ("\n\nFROM scratch\nCOPY ignored .\nADD ignored /windy\n", {4: '"ignored" that is excluded by .dockerignore', 5: '"ignored" that is excluded by .dockerignore'}, {}),
    ("# x\nFROM scratch\nCOPY ignored .\nADD ignored /windy\n",
     {3: 'Attempting to Copy file "ignored" that is excluded by .dockerignore', 4: 'Attempting to Add file "ignored" that is excluded by .dockerignore'}, {}),
    ("\nFROM scratch AS base\nCOPY Dockerfile /ignored\nADD Dockerfile /windy\n\nFROM base\nCOPY --from=base /ignored /Dockerfile\n", {}, {}),
    ("\nFROM scratch\nARG SECRET_PASSPHRASE\nENV SUPER_Secret=foo\nENV password=bar secret=baz\nARG super_duper_secret_token=foo auth=bar\n"
     "ENV apikey=bar sunflower=foo\nENV git_key=\nENV PUBLIC_KEY=\nARG public_token\n"
     "ARG SECRET_PASSPHRASE_FILE\nENV password_file=bar secret_File=baz\nARG AUTH_MODULE_VERSION\n"
     "# check=skip=SecretsUsedInArgOrEnv // allow secret in environment\nENV password=bar\n# check=skip=SecretsUsedInArgOrEnv // in arg\nARG password\n"
     "# check=skip=all // is local to only this instruction\nENV alternate_password=bar\n# CHECK = skip=A,all\nARG alternate_password\n",
     {3: '(ARG "SECRET_PASSPHRASE")', 4: '(ENV "SUPER_Secret")', 5: ['(ENV "password")', '(ENV "secret")'],
      6: ['(ARG "auth")', '(ARG "super_duper_secret_token")'], 7: '(ENV "apikey")', 8: '(ENV "git_key")'}, {}),
    ("\nFROM scratch AS first\nCOPY $foo .\n\nFROM scratch AS second\nCOPY $bar .\n",
     {3: "Usage of undefined variable '$foo'", 6: "Usage of undefined variable '$bar'"}, {}),
    ("#check=skip=all\nFROM scratch as base\ncopy Dockerfile .\n", {}, {}),
    ("#check=skip=ConsistentInstructionCasing,FromAsCasing;error=true\nFROM scratch as base\ncopy Dockerfile .\n", {}, {}),
    ("#check=skip=ConsistentInstructionCasing\nFROM scratch as base\ncopy Dockerfile .\n", {2: "'as' and 'FROM' keywords' casing do not match"}, {}),
    ("#check=skip=all\nFROM scratch as base\ncopy Dockerfile .\n", {2: "'as' and 'FROM' keywords' casing do not match"},
     {"BUILDKIT_DOCKERFILE_CHECK": "skip=ConsistentInstructionCasing;error=true"}),
    ("#check=error=true\nFROM scratch as base\ncopy Dockerfile .\n", {}, {"BUILDKIT_DOCKERFILE_CHECK": "skip=all"}),
    ("\nFROM scratch\n# check=skip=JSONArgsRecommended\nCMD a\n# check=skip=MaintainerDeprecated\n# why\nMAINTAINER me\n", {}, {}),
    ("\nFROM scratch\n# check=skip=JSONArgsRecommended\n#\nCMD a\n# check=skip\nMAINTAINER me\n", {5: "OS signals", 7: "using label"}, {}),
    ("\nFROM scratch\n# check=skip=LegacyKeyValueFormat\nENV testkey value\n# check=error=false;skip=legacykeyvalueformat\nLABEL key value\n", {}, {}),
    ("\n# check=skip=RedundantTargetPlatform\nFROM --platform=$TARGETPLATFORM scratch\n# check=skip=WorkdirRelativePath\nWORKDIR app/\n", {}, {}),
    ("# check=experimental=all\n\n# check=skip=all // x\n# foo is it\nARG foo\n# foo is it\n# check=skip=x\nARG foo\nFROM scratch\n", {}, {}),
    ("\n# x\n#\nFROM scratch AS BadStageName\n\n#\nFROM scratch as base2\n\nFROM scratch AS base3\n",
     {4: "Stage name 'BadStageName' should be lowercase", 7: "'as' and 'FROM' keywords' casing do not match"}, {}),
    ("\nFROM scratch\n# warning: empty continuation line\nCOPY Dockerfile \\\n\n.\nCOPY Dockerfile \\\n.\n", {6: "Empty continuation line"}, {}),
    ("\n#\nFrom scratch as base\nFROM scratch AS base2\n", {3: "Command 'From' should match the case of the command majority (uppercase)"}, {}),
    ("\n#\nfrOM scratch as base\nfrom scratch as base2\n", {3: "Command 'frOM' should match the case of the command majority (lowercase)"}, {}),
    ("\nfrom scratch\nCOPY Dockerfile /foo\ncopy Dockerfile /bar\n", {3: "Command 'COPY' should match the case of the command majority (lowercase)"}, {}),
    ("\nFROM scratch\nRUN <<'EOT'\nenv\nEOT\n", {}, {}),
    ("\nFROM scratch AS scratch\nFROM scratch AS context\n",
     {2: 'Stage name should not use the same name as reserved stage "scratch"', 3: 'Stage name should not use the same name as reserved stage "context"'}, {}),
    ('\nFROM scratch AS base\nSHELL ["/usr/bin/customshell"]\n\nFROM base\nCMD mycommand\n', {}, {}),
    ('\nFROM scratch AS base\nSHELL ["/usr/bin/customshell"]\n\nFROM base\nENTRYPOINT mycommand\n', {}, {}),
    ("\nARG DEBUG\nFROM scratch${DEBUG}\nCOPY Dockerfile .\n", {}, {}),
    ("\nARG DEBUG\nFROM scra${DEBUG:-tch}\nCOPY Dockerfile .\n", {}, {}),
    ('\nARG DEBUG=""\nFROM scratch${DEBUG-@bogus}\nCOPY Dockerfile .\n', {}, {}),
    ("\nARG BUILDPLATFORM=linux/amd64\nFROM --platform=$BUILDPLATFORM scratch\nCOPY Dockerfile .\n", {}, {}),
    ("\nFROM --platform=$BULIDPLATFORM scratch\n", {2: "FROM argument 'BULIDPLATFORM' is not declared (did you mean BUILDPLATFORM?)"}, {}),
    ("\nARG MY_OS=linux\nARG MY_ARCH=amd64\nFROM --platform=linux/${MYARCH} busybox\n", {4: "FROM argument 'MYARCH' is not declared (did you mean MY_ARCH?)"}, {}),
    ("\nARG tag=latest\nFROM busybox:${tag}${version} AS b\n", {3: "FROM argument 'version' is not declared"}, {}),
    ("\nFROM scratch\nWORKDIR app/\n", {3: 'Relative workdir "app/" can have unexpected results if the base image changes'}, {}),
    ("\nFROM scratch AS a\nWORKDIR /app\n\nFROM a AS b\nWORKDIR subdir/\n", {}, {}),
    ("\nFROM scratch\nARG foo\nCOPY Dockerfile${foo} .\n", {}, {}),
    ("\nFROM alpine AS base\nARG foo=Dockerfile\n\nFROM base\nCOPY $foo .\n", {}, {}),
    ("\nFROM alpine\nRUN echo $PATH\n", {}, {}),
    ("\nFROM alpine\nCOPY $foo .\nARG foo=bar\nRUN echo $foo\n", {3: "Usage of undefined variable '$foo'"}, {}),
    ("\nFROM alpine\nARG DIR_BINARIES=binaries/\nARG DIR_ASSETS=assets/\nARG DIR_CONFIG=config/\nCOPY $DIR_ASSET .\n",
     {6: "Usage of undefined variable '$DIR_ASSET' (did you mean $DIR_ASSETS?)"}, {}),
    ("\nFROM alpine\nENV PATH=$PAHT:/tmp/bin\n", {3: "Usage of undefined variable '$PAHT' (did you mean $PATH?)"}, {}),
    ('\nFROM scratch\nENTRYPOINT ["/a"]\nENTRYPOINT ["/b"]\nCMD ["/a"]\nCMD ["/b"]\nHEALTHCHECK CMD ["/a"]\nHEALTHCHECK CMD ["/b"]\n',
     {at: f"Multiple {name} instructions should not be used in the same stage because only the last one will be used"
      for at, name in ((3, "ENTRYPOINT"), (5, "CMD"), (7, "HEALTHCHECK"))}, {}),
    ("\nFROM scratch AS a\n\nFROM a AS b\nENV testkey value\nLABEL key value\n\nFROM a AS c\n",
     {5: '"ENV key=value" should be used instead of legacy "ENV key value" format', 6: '"LABEL key=value" should be used instead of legacy "LABEL key value" format'}, {}),
    ("\nFROM --platform=${TARGETPLATFORM} scratch\n", {2: "Setting platform to predefined ${TARGETPLATFORM} in FROM is redundant as this is the default behavior"}, {}),
    ("\nARG VERSION\nFROM busybox:$VERSION\n", {3: "Default value for ARG busybox:$VERSION results in empty or invalid base image name"}, {"VERSION": "latest"}),
    ("\nARG IMAGE\nFROM $IMAGE\n", {3: "Default value for ARG $IMAGE results in empty or invalid base image name"}, {"IMAGE": "busybox:latest"}),
    ('\nARG SFX="box:"\nFROM busy${SFX}\n', {3: "Default value for ARG busy${SFX} results in empty or invalid base image name"}, {"SFX": "box:latest"}),
    ('\nARG VERSION="latest"\nFROM busybox:${VERSION}\n', {}, {"VERSION": "latest"}),
    ("\nARG BUSYBOX_VARIANT\nFROM busybox:stable${BUSYBOX_VARIANT}\n", {}, {"BUSYBOX_VARIANT": "-musl"}),
    ("\nFROM --platform=linux/amd64 scratch AS my_amd64_stage\n", {}, {}),
    ("\nFROM --platform=linux/amd64 scratch AS linux\n", {}, {}),
]  # fmt: skip


@pytest.mark.parametrize("text, wanted, given", OF_BUILDKIT)
def test_as_buildkit_says_it(text: str, wanted: dict[int, str | list[str]], given: dict[str, str]) -> None:
    dockerfile = Dockerfile(text.encode(), "Dockerfile")
    found: dict[int, list[str]] = {}
    for one in lint.lint(dockerfile, Scope(dockerfile, given, HOST), lambda name: {}, Patterns(["ignored"])):
        found.setdefault(one.place.line, []).append(one.place.what)
    assert [*found] == [*wanted]
    for line, lines in wanted.items():
        texts = [lines] if isinstance(lines, str) else lines
        assert all(said.endswith(text) for said, text in zip(sorted(found[line]), texts, strict=True)), found[line]


def test_an_image_for_another_platform() -> None:
    dockerfile = Dockerfile(b"FROM busybox\nFROM --platform=$BUILDPLATFORM busybox AS b\nFROM scratch\nFROM b", "Dockerfile")
    scope = Scope(dockerfile, {}, HOST, build={**HOST, "architecture": "arm64"})
    found = lint.lint(dockerfile, scope, lambda name: {}, None, lambda name, platform: "linux/arm64")
    what = 'Base image busybox was pulled with platform "linux/arm64", expected "linux/amd64" for current build'
    assert [str(one) for one in found] == [f"Dockerfile:1:6: InvalidBaseImagePlatform: {what}"]
    arm = Scope(dockerfile, {}, {"os": "linux", "architecture": "arm", "variant": "v7"})
    assert not lint.lint(dockerfile, arm, lambda name: {}, None, lambda name, platform: "linux/arm/v6")  # as BuildKit


@pytest.mark.root
def test_what_comes_before_an_error_is_said(built: Any) -> None:
    done = built("FROM BASE AS BadStageName\nMAINTAINER me\nBADCMD\n", "--check", code=1)
    assert [line.split(": ")[1] for line in done.stdout.splitlines()] == ["StageNameCasing", "MaintainerDeprecated"]
    assert done.stderr.endswith("oci-build: Dockerfile:3:1: unknown instruction: BADCMD\n")
    failed = built("FROM --platform=$BULIDPLATFORM BASE\n", code=1).stderr
    assert "empty platform value from expression $BULIDPLATFORM (did you mean BUILDPLATFORM?)" in failed
