# SPDX-License-Identifier: MIT
"""`ramferry demo --transport rdma` on a real device, all in one boot: converges, all pages right, nothing left behind.

RAMFERRY names the program; RAMFERRY_LONG=1 takes 256 MiB in place of 32.
"""

import itertools
import json
import os
import pathlib
import subprocess
import sys
import time
import unittest

from rdma_case import NOTHING, resources

PROGRAM = os.environ["RAMFERRY"]
LONG = os.environ.get("RAMFERRY_LONG") == "1"
MIB = 1 << 20
RAM = (256 if LONG else 32) * MIB


class Demo(unittest.TestCase):
    def demo(self, *options, dirty_rate="4M" if LONG else "2M"):
        done = subprocess.run([PROGRAM, "demo", "--transport", "rdma", "--json", "--ram", str(RAM),
                               "--dirty-rate", dirty_rate, *options], capture_output=True, text=True, timeout=300)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        result = json.loads(done.stdout)
        self.assertEqual(result["source"]["status"], "completed")
        self.assertEqual(result["sweep"]["wrong"], 0, result["sweep"])
        self.assert_nothing_is_left()
        own = result["source"]["x-ramferry"]
        seconds = [f"{name} {own[f'{name}-seconds']:.3f} s" for name in ("time-to-first-byte", "downtime", "total")]
        print(f"{' '.join(options)}: {', '.join(seconds)}; {own['stream']['copied-bytes']} bytes copied, "
              f"{own['transport']['peak-pinned']} pinned", flush=True)
        return result

    def assert_nothing_is_left(self):
        """A VM that is ending yet has its time."""
        deadline = time.monotonic() + 60
        while any(resources().values()) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertEqual(resources(), NOTHING)

    def test_every_pinning_and_number_of_lanes(self):
        for pin, lanes in itertools.product(("all", "demand"), (1, 4)):
            with self.subTest(pin=pin, lanes=lanes):
                # Random content leaves no page untouched: all of it is lent, and what is lent is never copied.
                fill = "random" if lanes == 1 else f"mixed:{PROGRAM}"
                budget = ["--pin-budget", str(RAM // 4)] if pin == "demand" else []
                result = self.demo("--pin", pin, "--lanes", str(lanes), "--fill", fill, *budget)
                own = result["source"]["x-ramferry"]
                transport, stream = own["transport"], own["stream"]
                self.assertEqual((transport["pin"], transport["lanes"]), (pin, str(lanes)))
                self.assertTrue(transport["device"] and transport["gid"] and int(transport["mtu"]) >= 256, transport)
                if pin == "all":
                    self.assertGreater(stream["peak-pinned-bytes"], RAM // 2)
                    if fill == "random":
                        self.assertEqual(stream["copied-bytes"], 0)
                else:
                    # The budget, the ring beside it, and what messages and fences are sent from.
                    self.assertLess(stream["peak-pinned-bytes"], RAM // 4 + RAM // 16 + 2 * MIB)

    def test_round_one_copies_nothing(self):
        # A guest that writes nothing has no other round. Chunks are registered, placed from and given up in turn.
        for lanes in (1, 4):
            with self.subTest(lanes=lanes):
                own = self.demo("--pin", "demand", "--pin-budget", str(RAM // 4), "--lanes", str(lanes),
                                "--fill", "random", dirty_rate="0")["source"]["x-ramferry"]
                self.assertEqual(own["stream"]["copied-bytes"], 0)
                self.assertGreaterEqual(own["stream"]["placed-bytes"], RAM)
                self.assertLess(own["stream"]["peak-pinned-bytes"], RAM // 4 + RAM // 16 + 2 * MIB)


if __name__ == "__main__":
    if not any(pathlib.Path("/sys/class/infiniband").glob("*")):
        sys.exit("no RDMA device here: run it by tests/soft-roce/rig")
    unittest.main(verbosity=2)
