#!/usr/bin/env bash
# Installs the system packages that tesa and its tests need, with apt-get, as root; elsewhere it names what is missing.
#
#   scripts/setup_system.sh           all that the tests use: cross compiler, emulator, linkers, OpenCL, a browser (2.5 GB)
#   scripts/setup_system.sh needed    only what tesa cannot do without: a C compiler and make
#
# Does nothing where everything is there, so it may run again at any time.
set -euo pipefail

OLDEST=19    # version of lld and llvm: older ones refuse what TVM's LLVM writes
NEWEST=40

missing=()

# need PACKAGE COMMAND...: the package, as Debian calls it, where the command fails
need() {
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}

there() { command -v "$1"; }

any() {
    local name
    for name in "$@"; do
        if [ -n "$name" ] && there "$name"; then return 0; fi
    done
    return 1
}

# new_enough PROGRAM: whether PROGRAM, or PROGRAM-N, is of a version that is new enough
new_enough() {
    local number
    number=$("$1" --version 2>/dev/null | sed -n 's/.*\(LLD\|LLVM version\) \([0-9]*\).*/\2/p')
    if [ "${number:-0}" -ge "$OLDEST" ]; then return 0; fi
    for ((number = NEWEST; number >= OLDEST; number--)); do
        if there "$1-$number"; then return 0; fi
    done
    return 1
}

# newest PACKAGE: the newest PACKAGE-N that apt knows, or PACKAGE itself
newest() {
    local number
    for ((number = NEWEST; number >= OLDEST; number--)); do
        if apt-cache show "$1-$number" >/dev/null 2>&1; then echo "$1-$number"; return; fi
    done
    echo "$1"
}

need g++ any "${CXX:-}" g++ gcc clang++ clang
need make there make
need python3-venv "${PYTHON:-python3}" -c 'import ensurepip, venv'
if [ "${1:-}" != needed ]; then
    [[ " ${missing[*]} " == *" g++ "* ]] || need g++ there g++    # the thread sanitizer's
    need cmake there cmake
    need zsh there zsh
    need valgrind there valgrind
    need openssl there openssl
    need g++-aarch64-linux-gnu there aarch64-linux-gnu-g++
    need libc6-dev-arm64-cross test -e /usr/aarch64-linux-gnu/include/stdio.h
    need qemu-user there qemu-aarch64
    need lld new_enough wasm-ld
    need llvm new_enough llvm-mca                               # llvm-objdump is in it, too
    need nodejs there node
    need chromium there chromium
    need ocl-icd-libopencl1 test -e /usr/lib/*/libOpenCL.so.1   # kernels for GPUs run on the CPU through OpenCL
    need pocl-opencl-icd test -e /etc/OpenCL/vendors/pocl.icd
    need oclgrind there oclgrind
fi

if [ ${#missing[@]} -eq 0 ]; then
    exit 0
fi
if ! there apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
    echo "Missing, by Debian's names: ${missing[*]}. Install them, as root, with the package manager of this system;" \
        "lld and llvm from version $OLDEST on. tesa itself needs a C compiler and make: scripts/setup_system.sh needed" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
for index in "${!missing[@]}"; do
    case ${missing[index]} in
        lld | llvm) missing[index]=$(newest "${missing[index]}") ;;
    esac
done
apt-get install -y -qq --no-install-recommends "${missing[@]}"
