"""Words of a Dockerfile: quotes, escapes and variables, as BuildKit's shell lexer reads them."""

from __future__ import annotations

import pytest

from oci_tools.build import words
from oci_tools.errors import Error

ENV = {"PWD": "/home", "SHELL": "bash", "KOREAN": "한국어", "NULL": "", "A": "a b", "V": "foo.bar.foo", "P": "/x/y/z.tar.gz"}


@pytest.mark.parametrize(
    "text, wanted",
    {
        "hello": "hello",
        "he'll'o": "hello",
        "he\"ll\"o": "hello",
        "he\\'llo": "he'llo",
        "he\\\\'llo'": "he\\llo",
        "abc\\tdef": "abctdef",
        "'abc\\tdef'": "abc\\tdef",
        "\"abc\\tdef\"": "abc\\tdef",
        "\"abc\\\\tdef\"": "abc\\tdef",
        "\"abc\\\"def\"": "abc\"def",
        "'hello\\there'": "hello\\there",
        "a'b\"c\"d'e": "ab\"c\"de",
        "$": "$",
        "$PWD": "/home",
        "$.": "$.",
        "he$PWD.x": "he/home.x",
        "he${PWD}llo": "he/homello",
        "he$PWDllo": "he",
        "he\\$PWD": "he$PWD",
        "he'$PWD'": "he$PWD",
        "he\"$PWD\"": "he/home",
        "he\\${PWD}": "he${PWD}",
        "$NOT$PWD": "/home",
        "안녕$KOREAN": "안녕한국어",
        "${NOT:-word}": "word",
        "${NULL:-word}": "word",
        "${NULL-word}": "",
        "${PWD:-word}": "/home",
        "${PWD:+word}": "word",
        "${NULL:+word}": "",
        "${NULL+word}": "word",
        "${NOT+word}": "",
        "${NOT:-${PWD}}": "/home",
        "${NOT:-$NOT2}": "",
        "${NOT:-'a }b'}": "a }b",
        "${NOT:-\"q\"}": "q",
        "${PWD:?e}": "/home",
        "${NULL?e}": "",
        "${P#*/}": "x/y/z.tar.gz",
        "${P##*/}": "z.tar.gz",
        "${P%.*}": "/x/y/z.tar",
        "${P%%.*}": "/x/y/z",
        "${P#/?/}": "y/z.tar.gz",
        "${P%\\*}": "/x/y/z.tar.gz",
        "${V/foo/X}": "X.bar.foo",
        "${V//foo/X}": "X.bar.X",
        "${V/f*r/X}": "X.foo",
        "${V//o/}": "f.bar.f",
        "${V//./-}": "foo-bar-foo",
        "${NOT/a/b}": "",
        "$1": "",
        "$?x": "x",
        "${A}": "a b",
    }.items(),
)
def test_text(text: str, wanted: str) -> None:
    assert words.process(text, ENV).text == wanted


@pytest.mark.parametrize(
    "text, wanted",
    {
        "hello": ["hello"],
        "hello  there": ["hello", "there"],
        "hello 'a b' c": ["hello", "a b", "c"],
        "a\\ b c": ["a b", "c"],
        "$A": ["a", "b"],
        "'$A'": ["$A"],
        "\"$A\"": ["a b"],
        "x$A": ["xa", "b"],
        "  ": [],
        "${NOT:-a b}": ["a", "b"],
    }.items(),
)
def test_parted(text: str, wanted: list[str]) -> None:
    assert words.process(text, ENV).words == wanted


@pytest.mark.parametrize(
    "text, said",
    {
        "'abc": "unexpected end of statement while looking for matching single-quote",
        '"abc': "unexpected end of statement while looking for matching double-quote",
        "${": "missing '}'",
        "${}": "bad substitution",
        "${x": "missing '}'",
        "${NOT?}": "NOT: is not allowed to be unset",
        "${NOT?must $PWD}": "NOT: must /home",
        "${NULL:?must}": "NULL: must",
        "${PWD:#x}": "unsupported modifier (:#)",
        "${PWD:%x}": "unsupported modifier (:%)",
        "${PWD:": "missing '}'",
        "${PWD=x}": "unsupported modifier (=)",
        "${:x}": "bad substitution",
        "${{x}}": "bad substitution",
        "${NOT:?}": "NOT: is not allowed to be unset",
        "${NULL:?}": "NULL: is not allowed to be empty",
        "${NOT:?must be}": "NOT: must be",
        "${x:y}": "unsupported modifier (:y) in substitution",
        "${x^y}": "unsupported modifier (^) in substitution",
        "${P/x}": "missing '/' in ${}",
        "${P#\\x}": "invalid escape",
    }.items(),
)
def test_what_is_wrong(text: str, said: str) -> None:
    with pytest.raises(Error) as caught:
        words.process(text, ENV)
    assert said in str(caught.value) and str(caught.value).startswith("failed to process ")


def test_another_escape() -> None:
    assert words.process("c:\\dir`$A", ENV, escape="`").text == "c:\\dir$A"


def test_what_was_used() -> None:
    found = words.process("$PWD ${NOT} ${MAYBE:-x} ${NULL+y}", ENV)
    assert found.matched == {"PWD", "NULL"} and found.unmatched == {"NOT"}
