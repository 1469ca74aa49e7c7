#!/bin/sh
# Installs siemgate from the unpacked tarball that this file lies in, upgrades it, or takes it away.
# `install.sh --help` says more. Running it again changes nothing that is as it should be.
#
# What it promises: a configuration file that was changed or removed stays so; data is never touched
# except by --purge; a running gateway is restarted only if the new one accepts the configuration.
# With DESTDIR set everything goes below that folder, and users and services are left alone.
set -eu
umask 022

root=${DESTDIR:-}
bin=/usr/local/bin/siemgate
units=/usr/local/lib/systemd/system
share=/usr/local/share
etc=/etc/siemgate
state=/var/lib/siemgate
user=siemgate
# Every file that was installed, one a line, for the next upgrade and for --uninstall.
list=$share/siemgate/installed

here=$(dirname -- "$(readlink -f -- "$0")")/..
changed_unit=

usage() {
    cat <<END
usage: install.sh                      install, or upgrade what is installed
       install.sh --uninstall          remove the program; keep configuration, data and user
       install.sh --uninstall --purge  remove those, too

  program        $bin
  configuration  $etc/config.d (as shipped, to compare: $etc/shipped)
  secrets        $etc/secrets (siemgate secret set NAME), or $etc/credentials for LoadCredential=
  data           $state
  units          $units/siemgate.service, siemgate.socket
END
}

say() { printf '%s\n' "$*"; }
skipped() { say "skipped: $*"; }
die() {
    say "install.sh: $*" >&2
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }
# Whether systemd runs this system: not in a chroot or an ordinary container.
systemd_runs() { [ -z "$root" ] && [ -d /run/systemd/system ] && have systemctl; }
is_user() { grep -q "^$user:" /etc/passwd; }

# own MODE OWNER PATH: as OWNER is unknown below DESTDIR, only the mode is set there.
own() {
    chmod "$1" "$root$3"
    [ -n "$root" ] || chown "$2" "$3"
}

folder() {
    mkdir -p "$root$3"
    own "$1" "$2" "$3"
}

# put MODE FROM TO: replace TO at once, so that what runs keeps its file, and note it in the list.
put() {
    mkdir -p "$(dirname -- "$root$3")"
    printf '%s\n' "$3" >>"$root$list.new"
    if [ -f "$root$3" ] && cmp -s "$2" "$root$3"; then
        return
    fi
    cp -- "$2" "$root$3.new"
    chmod "$1" "$root$3.new"
    mv -f -- "$root$3.new" "$root$3"
}

# put_all FROM TO: every file below FROM.
put_all() {
    [ -d "$1" ] || return 0
    (cd "$1" && find . -type f) | sed 's#^\./##' | sort | while read -r file; do
        put 644 "$1/$file" "$2/$file"
    done
}

make_user() {
    if [ -n "$root" ]; then
        skipped "user $user (DESTDIR is set)"
    elif is_user; then
        :
    elif have useradd; then
        shell=/usr/sbin/nologin
        [ -x $shell ] || shell=/sbin/nologin
        useradd --system --user-group --home-dir $state --no-create-home --shell $shell $user
    elif have adduser; then
        # BusyBox.
        addgroup -S $user 2>/dev/null || true
        adduser -S -D -H -h $state -s /sbin/nologin -G $user $user
    else
        die "neither useradd nor adduser is there; make a system user and group $user and try again"
    fi
}

# One file of the configuration: new ones come, unchanged ones are renewed, others stay as they are.
configure() {
    new=$here/config.d/$1 now=$root$etc/config.d/$1 before=$root$etc/shipped/$1
    if [ ! -e "$now" ]; then
        # What was there and is not any more was removed by somebody.
        if [ -e "$before" ]; then return; fi
    elif [ -e "$before" ] && cmp -s "$before" "$now"; then
        if cmp -s "$new" "$now"; then return; fi
    else
        if ! cmp -s "$new" "$now" && ! cmp -s "$new" "$before"; then
            say "kept: $etc/config.d/$1 was changed here, and differs from this version's: diff -u $etc/config.d/$1 $etc/shipped/$1"
        fi
        return
    fi
    cp -- "$new" "$now.new"
    mv -f -- "$now.new" "$now"
    own 640 root:$user "$etc/config.d/$1"
}

configuration() {
    folder 755 root:root $etc
    folder 755 root:root $etc/shipped
    folder 750 root:$user $etc/config.d
    folder 700 root:root $etc/credentials
    folder 700 $user:$user $etc/secrets
    for file in "$here"/config.d/*; do
        [ -f "$file" ] || continue
        name=${file##*/}
        configure "$name"
        cp -- "$file" "$root$etc/shipped/$name"
        own 644 root:root "$etc/shipped/$name"
    done
    # What this version no longer ships goes, unless somebody changed it.
    for file in "$root$etc/shipped"/*; do
        name=${file##*/}
        [ -e "$here/config.d/$name" ] && continue
        if cmp -s "$file" "$root$etc/config.d/$name"; then rm -f -- "$root$etc/config.d/$name"; fi
        rm -f -- "$file"
    done
}

unit_files() {
    for name in siemgate.service siemgate.socket; do
        cmp -s "$here/packaging/$name" "$root$units/$name" || changed_unit=yes
        put 644 "$here/packaging/$name" "$units/$name"
    done
    # systemd gives a socket unit up if one of its addresses cannot be had.
    drop_in=/etc/systemd/system/siemgate.socket.d/no-ipv6.conf
    if [ -n "$root" ] || grep -q '^0\{31\}1 ' /proc/net/if_inet6 2>/dev/null; then
        return
    fi
    if [ ! -e $drop_in ]; then
        say "this machine has no IPv6 loopback address: $drop_in leaves it out of siemgate.socket"
        mkdir -p "$(dirname $drop_in)"
        printf '[Socket]\nListenStream=\nListenStream=127.0.0.1:5000\n' >$drop_in
        changed_unit=yes
    fi
}

# What was installed before and is not part of this version.
remove_old() {
    if [ -f "$root$list" ]; then
        while read -r file; do
            grep -qxF -- "$file" "$root$list.new" || rm -f -- "$root$file"
        done <"$root$list"
    fi
    mv -f -- "$root$list.new" "$root$list"
}

accepts() {
    CREDENTIALS_DIRECTORY=$etc/credentials $bin --config $etc/config.d check >/dev/null
}

start() {
    if ! systemd_runs; then
        skipped "starting it (systemd does not run here)"
        return
    fi
    [ -z "$changed_unit" ] || systemctl daemon-reload
    if ! systemctl is-active --quiet siemgate.service; then
        return
    fi
    if ! accepts; then
        die "installed, but the running gateway was not restarted, because the new one does not accept its configuration. Mend it, then: systemctl restart siemgate"
    fi
    # The sockets stay, so that nobody is refused meanwhile.
    systemctl restart siemgate.service
    say "restarted"
}

install() {
    for part in bin/siemgate packaging/siemgate.service packaging/siemgate.socket config.d; do
        [ -e "$here/$part" ] || die "$part is missing beside this script: unpack the whole tarball, and run install.sh from there"
    done
    version=$("$here/bin/siemgate" --version) ||
        die "bin/siemgate does not run on this machine ($(uname -m), $(uname -s)); nothing was changed"
    make_user
    mkdir -p "$root$share/siemgate"
    : >"$root$list.new"
    put 755 "$here/bin/siemgate" $bin
    configuration
    folder 750 $user:$user $state
    unit_files
    put_all "$here/man" $share/man/man1
    put_all "$here/completions/bash" $share/bash-completion/completions
    put_all "$here/completions/zsh" $share/zsh/site-functions
    put_all "$here/completions/fish" $share/fish/vendor_completions.d
    put_all "$here/docs" $share/doc/siemgate/docs
    put_all "$here/dashboards" $share/siemgate/dashboards
    for name in README.md CHANGELOG.md LICENSE; do
        [ ! -f "$here/$name" ] || put 644 "$here/$name" "$share/doc/siemgate/$name"
    done
    remove_old
    start
    say "$version is installed."
    systemd_runs && systemctl is-active --quiet siemgate.service && return
    [ -z "$root" ] || return 0
    say "Next, as root:
  siemgate check                  # reads $etc/config.d
  systemctl enable --now siemgate # port 5000 must be free
  siemgate send --wait            # a harmless event; it arrives in $state/out/events.ndjson"
}

stop() {
    if [ -z "$root" ] && have systemctl; then
        # Without systemd only the links go.
        if systemd_runs; then systemctl stop siemgate.socket siemgate.service 2>/dev/null || true; fi
        systemctl --quiet disable siemgate.socket siemgate.service 2>/dev/null || true
    else
        rm -f "$root/etc/systemd/system/multi-user.target.wants/siemgate.service" \
            "$root/etc/systemd/system/sockets.target.wants/siemgate.socket"
    fi
}

uninstall() {
    stop
    if [ -f "$root$list" ]; then
        while read -r file; do
            rm -f -- "$root$file"
            # Folders that are empty now, up to those that belong to the system.
            dir=$(dirname -- "$file")
            while case $dir in */siemgate | */siemgate/*) true ;; *) false ;; esac do
                rmdir -- "$root$dir" 2>/dev/null || break
                dir=$(dirname -- "$dir")
            done
        done <"$root$list"
        rm -rf -- "$root$share/siemgate"
    else
        say "nothing is installed"
    fi
    if systemd_runs; then systemctl daemon-reload; fi
    if [ -z "$purge" ]; then
        say "removed; kept: $etc, $state, user $user. --uninstall --purge removes them"
        return
    fi
    rm -rf -- "$root$etc" "$root$state" "$root/etc/systemd/system/siemgate.service.d" \
        "$root/etc/systemd/system/siemgate.socket.d"
    if [ -n "$root" ]; then
        skipped "user $user (DESTDIR is set)"
    elif is_user; then
        if have userdel; then userdel $user; else deluser $user; fi
    fi
    say "removed, with configuration and data"
}

what=install purge=
for argument; do
    case $argument in
    --uninstall) what=uninstall ;;
    --purge) purge=yes ;;
    -h | --help)
        usage
        exit 0
        ;;
    *)
        usage >&2
        exit 2
        ;;
    esac
done
if [ -n "$purge" ] && [ $what = install ]; then
    usage >&2
    exit 2
fi
[ -n "$root" ] || [ "$(id -u)" = 0 ] || die "run it as root (sudo $0)"
$what
