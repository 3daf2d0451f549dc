"""--check: BuildKit's rules by their names, one by one."""

from __future__ import annotations

from typing import Any

import pytest

from oci_tools.build import lint
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
        ALL + "FROM a\nCOPY secret.txt /": '3:6: CopyIgnoredFile: Attempting to COPY file "secret.txt" that is excluded by .dockerignore',
        ALL + "# else\nFROM a AS b": "3:1: InvalidDefinitionDescription: Comment for stage should follow the format: `# b <description>`",
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
        "FROM a\nCOPY secret.txt /",
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
def test_a_build_tells_and_may_end_of_it(built: Any) -> None:
    text = "FROM BASE\nCMD x\n"
    assert "warning: Dockerfile:2:1: JSONArgsRecommended" in built(text, "--progress", "plain").stderr
    failed = built("# check=error=true\n" + text, code=1).stderr.splitlines()
    assert failed[-1] == "oci-build: Dockerfile:3:1: lint violation found for rules: JSONArgsRecommended"
