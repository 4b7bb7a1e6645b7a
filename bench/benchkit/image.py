# SPDX-License-Identifier: MIT
"""The memory images of the workloads, as files in memory that every contender starts from."""
import os
import random

MIB = 1 << 20


def dense(size):
    """W2: nothing to compress, no page alike another."""
    return lambda number: os.urandom(MIB)


def text(size):
    """W3: words, as in logs and sources; compresses about four to one."""
    words = [bytes(random.Random(7).choices(b"abcdefghijklmnopqrstuvwxyz", k=length)) for length in range(2, 12)
             for _ in range(60)]
    draw = random.Random(3)
    pool = b" ".join(draw.choices(words, k=9 * MIB // 7))[:8 * MIB]

    def piece(number):
        at = draw.randrange(len(pool))
        return (pool[at:] + pool)[:MIB]
    return piece


def partly_zero(size, share=0.3):
    """Pages of content, and a share of zero pages among them."""
    draw = random.Random(30)

    def piece(number):
        return b"".join(bytes(4096) if draw.random() < share else os.urandom(4096) for _ in range(MIB // 4096))
    return piece


class Images:
    """Makes each image once; they stay in the folder, which belongs to who gave it."""

    KINDS = {"dense": dense, "text": text, "partly-zero": partly_zero}

    def __init__(self, folder):
        self.folder = folder
        self.paths = {}

    def get(self, kind, size):
        key = (kind, size)
        if key not in self.paths:
            path = os.path.join(self.folder, f"image-{kind}-{size}")
            piece = self.KINDS[kind](size)
            with open(path, "wb") as file:
                for number in range(size // MIB):
                    file.write(piece(number))
            self.paths[key] = path
        return self.paths[key]
