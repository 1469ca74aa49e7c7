#!/usr/bin/env bash
# Builds the tarball: target/dist/siemgate-VERSION-ARCH-linux.tar.gz and its checksum.
#
# The program is linked against glibc 2.17 (RHEL 7, SLE 12 SP2, Debian 8 and everything newer) by
# zig's linker, which comes from PyPI into a folder below target. Needs Python 3 with venv, objdump
# and the Rust toolchain; ten minutes on two cores when nothing is compiled yet.
set -euo pipefail
cd "$(dirname "$0")/.."
glibc=2.17
arch=$(uname -m)
target=${CARGO_TARGET_DIR:-$PWD/target}/dist
triple=$arch-unknown-linux-gnu
tools=$target/zig

if [[ ! -x $tools/bin/cargo-zigbuild ]]; then
    python3 -m venv "$tools"
    "$tools/bin/pip" --quiet --disable-pip-version-check install ziglang==0.17.1 cargo-zigbuild==0.24.1
fi
# Zig keeps what it compiles; below target it goes with the rest.
PATH=$tools/bin:$PATH XDG_CACHE_HOME=$target/cache CARGO_TARGET_DIR=$target \
    cargo-zigbuild build --locked --release --target "$triple.$glibc"
binary=$target/$triple/release/siemgate

newest=$(objdump -T "$binary" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1)
if [[ $(printf '%s\n' "GLIBC_$glibc" "$newest" | sort -V | tail -n 1) != "GLIBC_$glibc" ]]; then
    echo "the program needs $newest; it must run with glibc $glibc" >&2
    exit 1
fi

name=siemgate-$("$binary" --version | cut -d ' ' -f 2)-$arch-linux
rm -rf "${target:?}/$name"
packaging/stage.sh "$target/$name" "$binary"
# The same bytes from the same commit, whoever builds them and when.
time=$(git log -1 --format=%ct 2>/dev/null || echo 0)
tar --create --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$time" \
    --directory="$target" "$name" | gzip -9n >"$target/$name.tar.gz"
(cd "$target" && sha256sum "$name.tar.gz" >"$name.tar.gz.sha256")
printf '%s: %s bytes, program %s bytes, needs %s\n' "$target/$name.tar.gz" \
    "$(stat -c %s "$target/$name.tar.gz")" "$(stat -c %s "$binary")" "$newest"
