# SPDX-License-Identifier: MIT
"""The parts of tests/soft-roce/rig, in the order a run uses them: kernel, guest, console, kernel_log."""
