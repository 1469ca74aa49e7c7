#!/usr/bin/env bash
# Installs what the tests start by themselves: promtool and a real Alertmanager, from Debian's or
# Ubuntu's packages, and Python's modules into target/python. Does nothing when they are there. Their
# services are neither started nor enabled. Without root or sudo it says what is missing; the tests then say what they skip, or
# fail when CI is set.
set -euo pipefail

declare -A package=([promtool]=prometheus [prometheus-alertmanager]=prometheus-alertmanager)
# Module and version of what is imported.
modules=(standardwebhooks==1.0.0)

# Python's modules, into a folder of this checkout.
install_modules() {
    local venv wanted
    venv=$(cd "$(dirname "$0")/.." && pwd)/target/python
    wanted="${modules[*]}"
    [[ $(cat "$venv/.installed" 2>/dev/null) != "$wanted" ]] || return 0
    if ! { python3 -m venv "$venv" && "$venv/bin/pip" -q install "${modules[@]}"; }; then
        echo "tests/setup.sh: not installed for Python: $wanted" >&2
        return 0
    fi
    printf '%s' "$wanted" >"$venv/.installed"
}
trap install_modules EXIT

missing=()
for program in "${!package[@]}"; do
    command -v "$program" >/dev/null || missing+=("${package[$program]}")
done
python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
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
    trap '"${as_root[@]}" rm -f "$policy"; install_modules' EXIT
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
