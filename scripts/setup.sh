#!/usr/bin/env bash
# Installs what building, the demo and the tests need on Debian 12 and Ubuntu 24.04.
#
#   scripts/setup.sh [build|demo|test]...      (without arguments: these three)
#   scripts/setup.sh bench                     what `make bench` compares with; not needed otherwise
#
# Safe to run again: on a complete machine it asks dpkg, changes nothing, and needs neither root nor
# a network.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)

declare -A packages=(
    [build]="build-essential cmake pkg-config git ca-certificates curl
             libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev"
    [demo]="gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good
            gstreamer1.0-alsa gstreamer1.0-pulseaudio gstreamer1.0-pipewire
            pulseaudio-utils espeak-ng python3 procps"
    [test]="gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good
            gstreamer1.0-plugins-bad gstreamer1.0-alsa gstreamer1.0-pulseaudio
            gstreamer1.0-pipewire pipewire pipewire-bin pipewire-pulse wireplumber pulseaudio
            pulseaudio-utils espeak-ng age iproute2 iptables dbus tmux procps python3"
    [bench]="gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good
             gstreamer1.0-plugins-bad iproute2 util-linux snapserver snapclient jackd2 jacktrip"
)

# Packages that come with a service, which nobody asked for here.
services="snapserver snapclient"

main() {
    local groups=("$@") group
    [ ${#groups[@]} -gt 0 ] || groups=(build demo test)

    local wanted=()
    for group in "${groups[@]}"; do
        [ -n "${packages[$group]:-}" ] || die "unknown group '$group'; the groups are: build demo test bench"
        # shellcheck disable=SC2206 # the lists are words
        wanted+=(${packages[$group]})
    done

    install_missing "${wanted[@]}"
    if [[ " ${groups[*]} " == *" build "* || " ${groups[*]} " == *" test "* ]]; then
        ensure_rust
    fi
}

# Installs those of the named packages that are not there.
install_missing() {
    local missing=() package
    for package in $(printf '%s\n' "$@" | sort -u); do
        installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0

    if ! command -v apt-get >/dev/null; then
        die "this machine lacks: ${missing[*]}
These are the names on Debian and Ubuntu, the systems this script knows. Install what your system
calls them (GStreamer 1.22 or later with its development files comes first), then run make again."
    fi
    known_system || say "this is neither Debian 12 nor Ubuntu 24.04: trying their package names"
    say "installing: ${missing[*]}"
    refresh_lists
    local services_here=()
    for package in $services; do
        [[ " ${missing[*]} " != *" $package "* ]] || services_here+=("$package.service")
    done
    [ ${#services_here[@]} -eq 0 ] || mask "${services_here[@]}"
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
        die "apt-get could not install: ${missing[*]}
Read its message above; when a package is not found, check that 'main' and 'universe' are enabled."
}

# Keeps services from starting, now and after the next boot: what systemctl mask does, also where no
# systemd runs, so that Debian's scripts, which look for these links, leave them alone.
mask() {
    local service
    for service in "$@"; do
        [ -e "/etc/systemd/system/$service" ] || {
            as_root mkdir -p /etc/systemd/system
            as_root ln -s /dev/null "/etc/systemd/system/$service"
            say "masked $service (systemctl unmask $service brings it back)"
        }
    done
}

# Asks the package servers what they have, once.
refresh_lists() {
    [ -z "${refreshed:-}" ] || return 0
    refreshed=yes
    as_root apt-get update -qq || say "apt-get update failed: trying with the package lists at hand"
}

installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Makes sure that cargo is there and new enough for Cargo.toml's rust-version.
ensure_rust() {
    local needed
    needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1)
    new_enough "$needed" && return 0
    has apt-get && refresh_lists

    # Through rustup first: it also brings clippy and rustfmt.
    if ! has rustup && candidate rustup; then
        install_missing rustup
    fi
    if has rustup; then
        say "installing the stable Rust toolchain through rustup"
        rustup toolchain install stable --profile minimal --component clippy --component rustfmt &&
            rustup default stable
        new_enough "$needed" && return 0
    fi

    # Debian 12 has no rustup; its security archive carries a recent compiler for browsers, as
    # rustc-web and cargo-web, which install /usr/bin/rustc and /usr/bin/cargo. No clippy there.
    if candidate cargo-web "$needed"; then
        install_missing rustc-web cargo-web rustfmt-web
        new_enough "$needed" && return 0
    fi

    die "Velin needs Rust $needed or later, and this machine has $(rust_version || echo none).
Get it from https://rustup.rs, open a new terminal so that cargo is on the PATH, and run make again."
}

# True when apt knows the package, in at least the given version if there is one.
candidate() {
    has apt-cache || return 1
    local version
    version=$(apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: //p')
    [ -n "$version" ] && [ "$version" != "(none)" ] || return 1
    [ -z "${2:-}" ] || dpkg --compare-versions "$version" ge "$2"
}

new_enough() {
    local have
    have=$(rust_version) || return 1
    [ "$(printf '%s\n' "$1" "$have" | sort -V | head -n 1)" = "$1" ]
}

rust_version() {
    has cargo && has rustc || return 1
    (cd "$root" && rustc --version 2>/dev/null) | sed -n 's/^rustc \([0-9.]*\).*/\1/p' | grep .
}

known_system() {
    [ -r /etc/os-release ] || return 1
    local id version
    id=$(. /etc/os-release && echo "${ID:-}")
    version=$(. /etc/os-release && echo "${VERSION_ID:-}")
    [ "$id $version" = "debian 12" ] || [ "$id $version" = "ubuntu 24.04" ]
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif has sudo; then
        sudo "$@"
    else
        die "installing packages needs root: run this again as root, or install sudo"
    fi
}

has() { command -v "$1" >/dev/null 2>&1; }

say() { echo "setup: $*" >&2; }

die() {
    echo "setup: $*" >&2
    exit 1
}

# A fresh rustup puts cargo here; a shell that was open before does not know.
PATH="$PATH:$HOME/.cargo/bin"
main "$@"
