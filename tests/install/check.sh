#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# usage: check.sh BUILD_DIR COMPILER
set -euo pipefail
build=$1 compiler=$2
here=$(dirname "$(readlink -f "$0")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cmake --install "$build" --prefix "$work/prefix" >"$work/install.log" || { cat "$work/install.log"; exit 1; }

echo "== CMake package"
cmake -G Ninja -S "$here/consumer" -B "$work/by-cmake" -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_PREFIX_PATH="$work/prefix" \
  -DCMAKE_BUILD_TYPE=Release >"$work/cmake.log" || { cat "$work/cmake.log"; exit 1; }
cmake --build "$work/by-cmake"
"$work/by-cmake/consumer"

echo "== pkg-config"
libdir=$(dirname "$(find "$work/prefix" -name ramferry.pc)")
export PKG_CONFIG_PATH=$libdir
pc=$(sed "s|^prefix=.*|prefix=$work/prefix|" "$libdir/ramferry.pc") && printf '%s\n' "$pc" >"$libdir/ramferry.pc"
# shellcheck disable=SC2046 # the flags are words
"$compiler" -std=c++20 "$here/consumer/main.cpp" -o "$work/by-pkg-config" $(pkg-config --cflags --libs ramferry)
"$work/by-pkg-config"
