# SPDX-License-Identifier: MIT
"""Compares what `ramferry` says of a stream, and keeps of it, with what a reader says that knows the format alone."""
import json
import os

import checkpoint_reader
import savevm_reader
from . import ramferry

KINDS = (("page", "normal"), ("zero", "zero"), ("xbzrle", "xbzrle"), ("compress", "compressed"))


def same_sections(test, ours, read):
    names = ("name", "instance", "version", "bytes")
    found = [{name: section[name] for name in names} for section in ours["sections"] if not section["live"]]
    test.assertEqual(found, read["sections"])


def compare_stream(test, path):
    """Both readers of a plain stream; what the independent one says."""
    stream = savevm_reader.read(path)
    read, found = stream.summary(), ramferry.inspect(path)
    test.assertEqual(found["machine"], read["machine"])
    test.assertEqual({block["name"]: block["bytes"] for block in found["blocks"]}, stream.blocks)
    for kind, ours in KINDS:
        test.assertEqual(sum(block["records"][ours] for block in found["blocks"]), read["records"].get(kind, 0), kind)
    same_sections(test, found, read)
    return stream


def compare_format(test, path, stream):
    """The checkpoint's file, read as its format is documented, against the stream that it was made of."""
    file = checkpoint_reader.read(path)
    test.assertEqual((file.origin, file.machine, file.left), ("qemu", stream.machine, 0))
    test.assertEqual(dict(file.blocks), stream.blocks)
    newest = {where: content for where, content in stream.pages.items() if content and any(content)}
    test.assertTrue(file.pages == newest, "the pages with content")
    test.assertIn(stream.machine.encode(), file.configuration)
    for *_, state in stream.sections:
        test.assertIn(state, file.state)
    test.assertEqual(json.loads(file.description) if file.description else None, stream.description)


def compare_checkpoint(test, path, stream):
    """A checkpoint that was made of the stream, by what `inspect` says of it, by its format, and page by page."""
    compare_format(test, path, stream)
    read, found = stream.summary(), ramferry.inspect(path)
    test.assertEqual(found["machine"], read["machine"])
    test.assertEqual({block["name"]: block["stored-pages"] for block in found["blocks"]},
                     {block: content["normal"] for block, content in read["blocks"].items()})
    same_sections(test, found, read)
    done = ramferry.run("send", path, f"file:{path}.again")
    test.assertEqual(done.returncode, 0, done.stderr)
    again = savevm_reader.read(path + ".again")
    os.unlink(path + ".again")
    for block in stream.blocks:
        test.assertTrue(again.memory(block) == stream.memory(block), block)
