#!/usr/bin/env bash
# Installs what tesa needs beside Python: g++, gcc or clang, which links every compiled model. Does nothing where
# everything is there, so it may run again at any time.
set -euo pipefail

packages=()
has_compiler() {
    local name
    for name in "${CXX:-}" g++ gcc clang++ clang; do
        if [ -n "$name" ] && command -v "$name" >/dev/null; then return 0; fi
    done
    return 1
}
has_compiler || packages+=(g++)
command -v make >/dev/null || packages+=(make)
"${PYTHON:-python3}" -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)

if [ ${#packages[@]} -eq 0 ]; then
    exit 0
fi
if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
    echo "Missing: ${packages[*]}. Install them, as root, with the package manager of this system." >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${packages[@]}"
