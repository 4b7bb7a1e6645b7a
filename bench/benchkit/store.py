# SPDX-License-Identifier: MIT
"""The results: one JSON file, written after every round, so that an interrupted run goes on where it stopped."""
import json
import os

FORMAT = 1


class Results:
    """`identity` says what makes runs comparable; a file of another identity is put aside, not continued."""

    def __init__(self, path, identity, machine):
        self.path = path
        self.data = {"format": FORMAT, "identity": identity, "machine": machine, "contests": {}, "parts": None,
                     "timelines": {}, "seconds": 0}
        if os.path.exists(path):
            with open(path) as file:
                before = json.load(file)
            if before.get("format") == FORMAT and before.get("identity") == identity:
                self.data = before
            else:
                aside = beside(path, before.get("identity", {}))
                os.replace(path, aside)
                print(f"bench: {path} was of another commit or of other options: it is {aside} now", flush=True)

    def contest(self, key, about):
        return self.data["contests"].setdefault(key, about | {"rounds": []})

    def save(self):
        temporary = self.path + ".new"
        with open(temporary, "w") as file:
            json.dump(self.data, file, indent=1)
            file.write("\n")
        os.replace(temporary, self.path)


def beside(path, identity):
    """Where results go that give way to others: named by what they are of."""
    root, ending = os.path.splitext(path)
    kinds = "".join(f"-{kind}" for kind in ("quick", "slow") if identity.get(kind))
    return f"{root}-{identity.get('commit', 'unknown')}{kinds}{ending}"


def load(path):
    with open(path) as file:
        data = json.load(file)
    if data.get("format") != FORMAT:
        raise ValueError(f"{path}: not a result of this version of the benchmark")
    return data
