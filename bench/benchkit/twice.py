# SPDX-License-Identifier: MIT
"""The same commit measured twice: the same winners, and medians of ratios close to each other?"""
import dataclasses

from .figures import OURS, ratios, value

NEAR = 0.10         # ratios this close to each other agree; this close to 1 there is no winner to speak of


@dataclasses.dataclass
class Pair:
    """One peer in one contest, and how many times as fast ramferry was in either run."""
    title: str
    peer: str
    first: float
    second: float
    cold: bool

    @property
    def apart(self):
        return abs(self.second / self.first - 1)

    @property
    def same_winner(self):
        return (self.first > 1) == (self.second > 1)

    @property
    def verdict(self):
        if self.cold:
            return "cold: no gate"
        if not self.same_winner and max(abs(self.first - 1), abs(self.second - 1)) > NEAR:
            return "another winner"
        return "agrees" if self.apart <= NEAR else "differs"


def pairs(first, second):
    """Every peer that both results have a ratio for."""
    for key, contest in first["contests"].items():
        other = second["contests"].get(key)
        for name in contest["contenders"] if other else []:
            medians = [value(ratios(each, name)) for each in (contest, other)] if name != OURS else []
            if medians and all(medians):
                yield Pair(contest["title"], name, medians[0].median, medians[1].median,
                           contest["destination"] == "cold")


def same_kind(first, second):
    """Why the two cannot be compared; empty if they can."""
    differs = [name for name in ("scope", "quick", "bytes", "slow", "commit")
               if first["identity"].get(name) != second["identity"].get(name)]
    return ", ".join(f"{name}: {first['identity'].get(name)} and {second['identity'].get(name)}" for name in differs)
