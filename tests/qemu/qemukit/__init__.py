# SPDX-License-Identifier: MIT
"""Drives real QEMUs: what the tests of ramferry's QEMU dialect are made of."""
