#!/usr/bin/env bash
# A stranger's install, from the tarball to the first event delivered, then an upgrade and a
# removal, in a clean root:
#
#   packaging/test-install.sh TARBALL   of an old Debian, with glibc 2.31
#   packaging/test-install.sh PROGRAM   of this machine's own Debian; makes a tarball of the program
#
# The first part has no systemd; the gateway is started as its unit says. In the second part systemd
# is process 1 of that root and runs the units themselves: restarts under load, a wrong
# configuration, a kill, a hang, a credential, a taken port.
#
# Needs root, debootstrap, ip, and a mirror of Debian in the machine's apt sources. All of it runs in
# namespaces of its own, with a loopback interface and nothing else: mounts and processes end with
# them. Roots are kept below target for the next time.
set -euo pipefail
minutes=5

say() { printf '%s\n' "$*"; }
die() {
    say "test-install: $*" >&2
    exit 1
}
# until_true WHAT COMMAND...: wait until it succeeds, for half a minute.
until_true() {
    local what=$1 end=$((SECONDS + 30))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < end)) || die "waited in vain until $what"
        sleep 0.1
    done
}
has() { grep -qF -- "$1" "$2" || die "$2 does not have: $1"$'\n'"$(tail -n 20 "$2")"; }
refuses() { if "$@" >/tmp/refused 2>&1; then die "this should have failed: $*"; fi; }

# ---- Outside ---------------------------------------------------------------------------------

# pristine FOLDER SUITE: a root as its distribution makes it, and systemd, which does not run yet.
pristine() {
    local mirror
    [[ -e $1 ]] && return
    # shellcheck disable=SC2016 # apt-get's own variables
    mirror=$(apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(REPO_URI)' 'Created-By: Packages' |
        sed -n 's/^Debian|Debian|//p' | head -n 1)
    [[ -n $mirror ]] || die "no mirror of Debian in this machine's apt sources"
    rm -rf "$1.new"
    debootstrap --variant=minbase --include=systemd "$2" "$1.new" "$mirror" >"$1.log" 2>&1 ||
        die "debootstrap failed: $(tail -n 3 "$1.log")"
    mv "$1.new" "$1"
}

outside() {
    local here roots suite group='' inside name
    here=$(readlink -f "$0")
    roots=${CARGO_TARGET_DIR:-$(dirname "$here")/../target}/roots
    ((EUID == 0)) || die "needs root"
    for tool in debootstrap ip unshare; do
        command -v "$tool" >/dev/null || die "$tool is missing: apt-get install debootstrap iproute2 util-linux"
    done
    mkdir -p "$roots"
    groups=$(findmnt -n -t cgroup2 -o TARGET | head -n 1)
    work=$(mktemp -d "$roots/run.XXXXXX")
    trap clean EXIT
    if [[ $1 == *.tar.gz ]]; then
        suite=bullseye
        cp "$1" "$work/"
    else
        suite=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
        name=siemgate-tested
        "$(dirname "$here")/stage.sh" "$work/$name" "$1"
        tar --create --directory="$work" "$name" | gzip -1 >"$work/$name.tar.gz"
    fi
    pristine "$roots/$suite" "$suite"
    cp -a "$roots/$suite" "$work/root"
    cp "$work"/*.tar.gz "$here" "$work/root/root/"
    inside=(--mount --pid --fork --net --uts --ipc --kill-child "$here")

    unshare "${inside[@]}" --chroot "$work/root" || die "the part without systemd failed"
    if [[ -z $groups ]] || ! mkdir "$groups/siemgate-test-$$" 2>/dev/null; then
        say "SKIPPED: the part with systemd (no control group can be made here)"
        return
    fi
    group=$groups/siemgate-test-$$
    cat >"$work/root/etc/systemd/system/stranger.service" <<END
[Service]
Type=oneshot
ExecStart=/bin/bash /root/test-install.sh --booted
ExecStopPost=/bin/systemctl --no-block exit \$EXIT_STATUS
StandardOutput=file:/root/said
StandardError=inherit
[Install]
WantedBy=multi-user.target
END
    chroot "$work/root" systemctl --quiet enable stranger.service
    local code=0
    bash -c 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"' - "$group" \
        timeout $((60 * minutes)) unshare --cgroup "${inside[@]}" --boot "$work/root" || code=$?
    cat "$work/root/root/said" 2>/dev/null || code=1
    ((code == 0)) && has "all of it" "$work/root/root/said"
    ((code == 0)) || die "the part with systemd failed"
}

clean() {
    rm -rf --one-file-system "$work"
    if [[ -n $groups && -d $groups/siemgate-test-$$ ]]; then
        find "$groups/siemgate-test-$$" -depth -type d -exec rmdir {} + 2>/dev/null || true
    fi
}

# What a root needs to be lived in; all of it ends with the namespaces.
furnish() {
    local root=$1 name
    mount --make-rprivate /
    mount --bind "$root" "$root"
    mount -t proc proc "$root/proc"
    mount -t sysfs sysfs "$root/sys"
    mount -t tmpfs -o mode=755 tmpfs "$root/dev"
    mount -t tmpfs -o mode=755 tmpfs "$root/run"
    mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
    for name in null zero full random urandom tty; do
        : >"$root/dev/$name"
        mount --bind "/dev/$name" "$root/dev/$name"
    done
    ln -s /proc/self/fd "$root/dev/fd"
    # PrivateDevices= passes these on.
    mkdir "$root"/dev/{shm,pts}
    mount -t tmpfs tmpfs "$root/dev/shm"
    mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
    ln -s pts/ptmx "$root/dev/ptmx"
    ip link set lo up
}

boot() {
    furnish "$1"
    mount -t cgroup2 cgroup2 "$1/sys/fs/cgroup"
    mkdir -p "$1/old"
    cd "$1"
    pivot_root . old
    umount -l /old
    # As systemd expects it of whoever starts it in a container: credentials are mounts.
    mount --make-rshared /
    exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        /lib/systemd/systemd --log-target=null --show-status=no </dev/null >/dev/null 2>&1
}

# ---- Inside, without systemd -------------------------------------------------------------------

unit() { sed -n "s/^$1=//p" /usr/local/lib/systemd/system/siemgate.service; }

# The service as its unit starts it, without systemd.
start() {
    local command
    read -ra command <<<"$(unit ExecStart)"
    : >/tmp/journal
    (
        cd "$(unit WorkingDirectory)"
        umask "$(unit UMask)"
        exec setpriv --reuid "$(unit User)" --regid "$(unit Group)" --init-groups --no-new-privs \
            --bounding-set -all env -i "${command[@]}" >/tmp/journal 2>&1
    ) &
    gateway=$!
    until_true "it is ready" grep -q ' ready ' /tmp/journal
}

stop() {
    kill -TERM "$gateway"
    wait "$gateway" || die "it ended with $?: $(tail -n 5 /tmp/journal)"
}

# A fresh event through the front door, and the archive has so many now.
event() {
    siemgate send --wait >/tmp/sent || die "not delivered: $(cat /tmp/sent)"
    has delivered /tmp/sent
    local lines
    lines=$(wc -l </var/lib/siemgate/out/events.ndjson)
    ((lines == $1)) || die "the archive has $lines events, not $1"
}

stranger() {
    local config=/etc/siemgate/config.d version
    version=$(ldd --version | sed -n '1s/.* //p')
    say "glibc $version; $(cat /etc/debian_version)"
    cd /root
    tar -xzf siemgate-*.tar.gz
    cd siemgate-*/

    ./install.sh | tee /tmp/said
    has "skipped: starting it" /tmp/said
    cd /
    siemgate check >/tmp/said || die "check: $(cat /tmp/said)"
    start
    event 1
    [[ $(stat -c '%U %a' /var/lib/siemgate/out/events.ndjson) == "siemgate 600" ]] ||
        die "others may read the archive"
    say "the first event is delivered after $SECONDS s"

    # Somebody changes, adds and removes files; then comes another version.
    cd /root/siemgate-*/
    echo '# mine' >>$config/10-superna.toml
    echo '# mine' >$config/90-mine.toml
    rm $config/50-sophos.toml.example
    echo '# theirs' | tee -a config.d/10-superna.toml config.d/20-archive.toml config.d/30-new.toml.example >/dev/null
    ./install.sh >/tmp/said
    has "kept: $config/10-superna.toml" /tmp/said
    has '# mine' $config/10-superna.toml
    has '# mine' $config/90-mine.toml
    has '# theirs' $config/20-archive.toml
    has '# theirs' $config/30-new.toml.example
    refuses grep theirs $config/10-superna.toml
    refuses test -e $config/50-sophos.toml.example
    stop
    start
    event 2
    stop
    say "upgraded"

    ./install.sh --uninstall
    refuses test -e /usr/local/bin/siemgate
    refuses test -e /usr/local/share/siemgate
    has '# mine' $config/90-mine.toml
    ./install.sh >/dev/null
    has '# mine' $config/10-superna.toml
    start
    event 3
    stop
    ./install.sh --uninstall --purge
    find / -xdev -iname '*siemgate*' -not -path '/root/*' -not -path '/proc/*' >/tmp/left
    [[ ! -s /tmp/left ]] || die "left behind: $(cat /tmp/left)"
    refuses id siemgate
    say "removed"
}

# ---- Inside, with systemd ----------------------------------------------------------------------

property() { systemctl show --property "$1" --value "${2:-siemgate.service}"; }
events() { sed 's/.*"id":"\(siemgate-test-[^"]*\)".*/\1/' /var/lib/siemgate/out/events.ndjson | sort -u | wc -l; }
active() { systemctl is-active --quiet siemgate.service && [[ $(property MainPID) != "$1" ]]; }

# Events, one after the other, each of which must be accepted, until /tmp/load is gone.
load() {
    local sent=0
    while [[ -e /tmp/load ]]; do
        siemgate send >"/tmp/load.said.$1" 2>&1 || { touch "/tmp/refused.$1"; return; }
        sent=$((sent + 1))
    done
    echo $sent >"/tmp/sent.$1"
}

booted() {
    local pid one other sent=0
    say "systemd $(systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p'), as process 1"
    # The tarball as it came: the first part changed what it had unpacked.
    rm -rf /root/siemgate-*/
    tar -xzf /root/siemgate-*.tar.gz -C /root
    cd /root/siemgate-*/
    ./install.sh >/tmp/said
    has "enable --now" /tmp/said
    # The last words, should anything fail.
    trap 'journalctl --sync; journalctl --quiet --no-pager --lines 40' EXIT
    systemctl enable --now siemgate
    systemctl is-active --quiet siemgate.service siemgate.socket || die "not active"
    event 1
    property StatusText | grep -q "listening on" || die "the status says: $(property StatusText)"
    pid=$(property MainPID)
    has "Seccomp:	2" "/proc/$pid/status"
    has "CapBnd:	0000000000000000" "/proc/$pid/status"
    # Both ends are systemd's: 3 is the first socket that is passed on.
    [[ $(readlink "/proc/$pid/fd/3") == socket:* ]] || die "no socket was passed on"

    : >/tmp/load
    for one in 1 2 3; do load $one & done
    for one in 1 2 3; do
        sleep 0.5
        systemctl restart siemgate || die "restart $one"
    done
    rm /tmp/load
    wait
    for one in 1 2 3; do
        [[ ! -e /tmp/refused.$one ]] || die "refused during a restart: $(cat /tmp/load.said.$one)"
        sent=$((sent + $(cat /tmp/sent.$one)))
    done
    until_true "all $((sent + 1)) events have arrived" eval "(( \$(events) == sent + 1 ))"
    say "3 restarts under load: $sent events, none refused"

    systemctl reload siemgate || die "reload"
    echo 'nonsense = 1' >/etc/siemgate/config.d/90-bad.toml
    refuses systemctl reload siemgate
    systemctl is-active --quiet siemgate || die "a bad file ended it"
    refuses systemctl restart siemgate
    [[ $(property ExecMainStatus) == 78 && $(property NRestarts) == 0 ]] ||
        die "status $(property ExecMainStatus), $(property NRestarts) restarts"
    rm /etc/siemgate/config.d/90-bad.toml
    systemctl restart siemgate || die "it does not start again"
    say "a wrong configuration: refused, told, not tried again"

    pid=$(property MainPID)
    kill -KILL "$pid"
    until_true "it is started again" active "$pid"
    # As a hung process: the watchdog ends it.
    mkdir -p /run/systemd/system/siemgate.service.d
    printf '[Service]\nWatchdogSec=2s\n' >/run/systemd/system/siemgate.service.d/quick.conf
    systemctl daemon-reload
    systemctl restart siemgate
    pid=$(property MainPID)
    kill -STOP "$pid"
    until_true "the watchdog has ended it" active "$pid"
    say "killed, and hung: started again"

    install -m 600 /dev/null /etc/siemgate/credentials/token
    echo secret >/etc/siemgate/credentials/token
    printf '[sources.superna]\nauth = [{ header = "X-Token", secret = { credential = "token" } }]\n' \
        >/etc/siemgate/config.d/90-token.toml
    printf '[Service]\nLoadCredential=token:/etc/siemgate/credentials/token\n' \
        >/run/systemd/system/siemgate.service.d/token.conf
    systemctl daemon-reload
    systemctl restart siemgate || die "the credential"
    export CREDENTIALS_DIRECTORY=/etc/siemgate/credentials
    siemgate send --wait >/tmp/sent || die "with a token: $(cat /tmp/sent)"
    # The other way: a file that root writes and the gateway's user owns.
    echo other | siemgate secret set token >/tmp/said
    sed -i 's#{ credential = "token" }#{ file = "/etc/siemgate/secrets/token" }#' /etc/siemgate/config.d/90-token.toml
    systemctl reload siemgate || die "the secret's file"
    siemgate send --wait >/tmp/sent || die "with a file: $(cat /tmp/sent)"
    say "a credential and a secret's file are read"

    systemctl stop siemgate.socket siemgate.service
    siemgate run >/tmp/journal 2>&1 &
    other=$!
    until_true "another one holds the port" grep -q ' ready ' /tmp/journal
    systemctl start siemgate.service || true
    until_true "who holds the port is told" eval "journalctl -u siemgate | grep -q 'a program of user root holds this port'"
    kill $other
    wait $other || die "the other one ended with $?"
    until_true "it has the port" active 0
    systemctl is-active --quiet siemgate.socket || die "the socket unit did not come back"
    say "a taken port: told, and taken when it is free"

    ./install.sh >/tmp/said
    has "restarted" /tmp/said
    ./install.sh --uninstall --purge
    refuses systemctl cat siemgate.service
    trap - EXIT
    say "all of it, after $SECONDS s"
}

case ${1:-} in
--chroot)
    furnish "$2"
    exec timeout $((60 * minutes)) chroot "$2" env -i HOME=/root \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        /bin/bash /root/test-install.sh --stranger
    ;;
--boot) boot "$2" ;;
--stranger) stranger ;;
--booted) booted ;;
*)
    [[ $# == 1 && -f $1 ]] || die "usage: packaging/test-install.sh TARBALL|PROGRAM"
    outside "$1"
    ;;
esac
