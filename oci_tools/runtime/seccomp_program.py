"""A seccomp filter as a classic BPF program: seccomp(2), linux/filter.h.

The program is a binary tree over call numbers for each architecture, for the kernel runs it
on every call of the process, and at installation on every number it has (its cache of calls
that are always allowed).  It uses only the instructions that the cache understands.  What it
decides comes from seccomp_rules.py.
"""

from __future__ import annotations

import sys
from struct import Struct

from oci_tools.errors import Error
from oci_tools.runtime.seccomp_rules import FOREIGN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_tools.runtime.seccomp_rules import Condition, Rule, Rules, Spans

MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS

_LD, _AND, _JA, _RET = 0x20, 0x54, 0x05, 0x06  # BPF_LD|W|ABS, BPF_ALU|AND|K, BPF_JMP|JA, BPF_RET|K
_JEQ, _JGT, _JGE = 0x15, 0x25, 0x35  # BPF_JMP|...|K
_NR, _ARCH, _ARGS = 0, 4, 16  # offsets in struct seccomp_data
_LOW, _HIGH = (0, 4) if sys.byteorder == "little" else (4, 0)
_REACH = 250  # a conditional jump leads over at most 255 instructions; a few are put between later

_SOCK_FILTER = Struct("=HBBI")


def assemble(sections: dict[int, Spans]) -> bytes:
    """The whole program: for each AUDIT_ARCH a tree over its call numbers; any other kills the process."""
    program = _Program()
    trees = [(arch, program.tree(spans)) for arch, spans in sections.items()]
    entry = program.result(FOREIGN[0][1])
    for arch, tree in reversed(trees):
        entry = program.jump(_JEQ, arch, tree, entry)
    program.load(_ARCH, entry)
    if len(program.code) > MAX_INSTRUCTIONS:
        what = f"{len(program.code)} instructions, of which the kernel takes {MAX_INSTRUCTIONS}"
        raise Error(f"config.json: linux.seccomp: too many rules: {what}")
    return b"".join(_SOCK_FILTER.pack(*one) for one in reversed(program.code))


class _Program:
    """Instructions from last to first: jumps only lead forward, so where one leads to is there before it.

    A place is an index from the end.  What is built from the end reads backwards: the last
    instruction added is the first to be executed.
    """

    def __init__(self) -> None:
        self.code: list[tuple[int, int, int, int]] = []
        self._results: dict[int, int] = {}
        self._rules: dict[Rules, int] = {}

    def result(self, action: int) -> int:
        """A place that returns this action, near enough to jump to."""
        at = self._results.get(action)
        if at is None or len(self.code) - at > _REACH:
            at = self._results[action] = self._add(_RET, 0, 0, action)
        return at

    def jump(self, test: int, value: int, yes: int, no: int) -> int:
        """Go to one of two places by what is in the accumulator."""
        if yes == no:
            return yes
        yes, no = self._near(yes), self._near(no)
        here = len(self.code) - 1
        return self._add(test, here - yes, here - no, value)

    def load(self, offset: int, then: int, mask: int = 0xFFFFFFFF) -> int:
        """Load a word of struct seccomp_data, some of its bits, and go to a place."""
        if then != len(self.code) - 1:
            then = self._leap(then)
        if mask != 0xFFFFFFFF:
            self._add(_AND, 0, 0, mask)
        return self._add(_LD, 0, 0, offset)

    def _add(self, *instruction: int) -> int:
        self.code.append(instruction)  # type: ignore[arg-type]
        return len(self.code) - 1

    def _near(self, place: int) -> int:
        return place if len(self.code) - place <= _REACH else self._leap(place)

    def _leap(self, place: int) -> int:
        """A place right here that goes on at a far one."""
        there = self.code[place]
        if there[0] == _RET:
            self._results[there[3]] = len(self.code)
            return self._add(*there)
        return self._add(_JA, 0, 0, len(self.code) - 1 - place)

    def tree(self, spans: Spans) -> int:
        """Look up a call number: a place that wants nothing in the accumulator."""
        merged = [span for i, span in enumerate(spans) if i == 0 or span[1] != spans[i - 1][1]]
        self._rules.clear()
        for _, rules in merged:
            if len(rules) > 1 and rules not in self._rules:
                self._rules[rules] = self.chain(rules)
        return self.load(_NR, self._branch(merged, 0, len(merged)))

    def _branch(self, spans: Spans, start: int, end: int) -> int:
        if end - start == 1:
            rules = spans[start][1]
            return self._rules[rules] if len(rules) > 1 else self.result(rules[0][1])
        middle = (start + end) // 2
        above = self._branch(spans, middle, end)
        below = self._branch(spans, start, middle)
        return self.jump(_JGE, spans[middle][0], above, below)

    def chain(self, rules: Rules) -> int:
        """Try one rule after the other."""
        place, at = self.result(rules[-1][1]), len(rules) - 1
        while at > 0:
            run = _run(rules, at)
            if len(run) > 1:
                place = self._any_of(run, rules[at - 1][1], place)
            else:
                place = self._all_of(rules[at - 1], place)
            at -= len(run)
        return place

    def _any_of(self, run: list[Condition], action: int, otherwise: int) -> int:
        """One argument has one of several values whose upper halves are the same."""
        place = otherwise
        for condition in run:
            place = self.jump(_JEQ, condition[2] & 0xFFFFFFFF, self.result(action), place)
        return self._halves(run[0], place, _JEQ, place, otherwise)

    def _all_of(self, rule: Rule, otherwise: int) -> int:
        conditions, action = rule
        place = self.result(action)
        for condition in reversed(conditions):
            place = self._test(condition, place, otherwise)
        return place

    def _test(self, condition: Condition, yes: int, no: int) -> int:
        """Go to one of two places by one condition."""
        _, op, value, _, _ = condition
        if op in ("SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE"):
            yes, no = no, yes
        if op == "SCMP_CMP_MASKED_EQ":
            return self._masked(condition, yes, no)
        test = {"SCMP_CMP_GE": _JGE, "SCMP_CMP_LT": _JGE, "SCMP_CMP_GT": _JGT, "SCMP_CMP_LE": _JGT}.get(
            op, _JEQ
        )
        low = self.jump(test, value & 0xFFFFFFFF, yes, no)
        return self._halves(condition, low, test, yes, no)

    def _halves(self, condition: Condition, low: int, test: int, yes: int, no: int) -> int:
        """Compare an argument's upper half, and its lower at `low` if that leaves it open."""
        index, _, value, _, narrow = condition
        place = self.load(_ARGS + 8 * index + _LOW, low)
        if narrow:
            return place
        high = value >> 32
        place = self.jump(_JEQ, high, place, no if test == _JEQ else self.jump(_JGT, high, yes, no))
        return self.load(_ARGS + 8 * index + _HIGH, place)

    def _masked(self, condition: Condition, yes: int, no: int) -> int:
        index, _, mask, wanted, _ = condition
        place = yes
        for half, shift in ((_LOW, 0), (_HIGH, 32)):
            bits = mask >> shift & 0xFFFFFFFF
            if bits:
                place = self.jump(_JEQ, wanted >> shift & bits, place, no)
                place = self.load(_ARGS + 8 * index + half, place, bits)
        return place


def _run(rules: Rules, end: int) -> list[Condition]:
    """The conditions of the rules before `end` that are alike: one argument is one value, the same action."""
    run: list[Condition] = []
    for conditions, action in reversed(rules[:end]):
        if run and (len(conditions) != 1 or action != rules[end - 1][1]):
            break
        condition = conditions[0]
        if run and (condition[:2] != run[0][:2] or condition[2] >> 32 != run[0][2] >> 32):
            break
        run.append(condition)
        if len(conditions) != 1 or condition[1] != "SCMP_CMP_EQ":
            break
    return run
