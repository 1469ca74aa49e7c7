#!/usr/bin/env bash
# Installs what the tests start by themselves: promtool and a real Alertmanager, from Debian's or
# Ubuntu's packages. Does nothing when they are there. Their services are neither started nor
# enabled. Without root or sudo it says what is missing; the tests then say what they skip, or
# fail when CI is set.
set -euo pipefail

declare -A package=([promtool]=prometheus [prometheus-alertmanager]=prometheus-alertmanager)
missing=()
for program in "${!package[@]}"; do
    command -v "$program" >/dev/null || missing+=("${package[$program]}")
done
((${#missing[@]} > 0)) || exit 0

as_root=()
if ((EUID != 0)); then
    as_root=(sudo -n)
fi
if ! command -v apt-get >/dev/null || ! "${as_root[@]}" true 2>/dev/null; then
    echo "tests/setup.sh: not installed: ${missing[*]} (no apt-get, or neither root nor sudo without a password)" >&2
    exit 0
fi

# Debian's way to keep packages from starting their services. One that is there already stays.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
    trap '"${as_root[@]}" rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
fi
apt() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=120 "$@"
}
apt update >/dev/null || echo "tests/setup.sh: apt-get update failed; going on with the lists there are" >&2
apt install --no-install-recommends "${missing[@]}"
if command -v systemctl >/dev/null; then
    for name in "${missing[@]}"; do
        "${as_root[@]}" systemctl disable "$name" >/dev/null 2>&1 || true
    done
fi
