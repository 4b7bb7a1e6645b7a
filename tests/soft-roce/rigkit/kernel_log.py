# SPDX-License-Identifier: MIT
"""Tells whether a guest's kernel log is clean. A command may succeed on a kernel that is already broken."""
import re

# What a kernel says when it has gone wrong, and what that means for the reader.
TROUBLE = [
    (r"Kernel panic", "the kernel gave up"),
    (r"\bOops\b|general protection fault|unable to handle (kernel|page fault)|BUG: kernel NULL",
     "the kernel crashed in a thread"),
    (r"\bBUG:|kernel BUG at", "the kernel found itself broken"),
    (r"\bWARNING:", "a kernel assertion failed"),
    (r"soft lockup|hard LOCKUP|rcu.*(self-detected stall|detected stalls|starved)",
     "a processor was stuck; on a heavily loaded machine that may be the load: run again alone"),
    (r"blocked for more than \d+ seconds", "a task hangs in the kernel"),
    (r"refcount_t:|list_(add|del) corruption|scheduling while atomic|slab.*corrupt|Bad page state",
     "kernel memory is corrupt"),
    (r"Out of memory:|oom-kill:|page allocation failure", "the guest ran out of memory: raise --memory"),
    (r"^rig: guest start-up failed", "the guest did not start"),
]

# Lines that match the above and mean nothing here. Each says why.
BENIGN = [
    # Advice about the emulated processor's speculation; TCG does not speculate.
    r"Spectre V2 : WARNING:|Speculative Return Stack Overflow: WARNING:|MDS: WARNING:",
]

_TROUBLE = [(re.compile(pattern), meaning) for pattern, meaning in TROUBLE]
_BENIGN = re.compile("|".join(BENIGN))


def findings(text):
    """(line, meaning) for every line of a kernel log that shows trouble, in order, each text once."""
    found, seen = [], set()
    for line in text.splitlines():
        message = re.sub(r"^(<\d+>)?\[\s*\d+\.\d+\]\s?", "", line)      # the same line is on console and in dmesg
        if message in seen or _BENIGN.search(message):
            continue
        for pattern, meaning in _TROUBLE:
            if pattern.search(message):
                seen.add(message)
                found.append((line.strip(), meaning))
                break
    return found
