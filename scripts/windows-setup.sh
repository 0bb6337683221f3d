#!/usr/bin/env bash
# Puts together what building and testing Velin for Windows needs, on Debian 12: a Rust compiler with
# a standard library for Windows, GStreamer's own Windows build, and a Wine prefix to run it in.
#
#   scripts/windows-setup.sh [DIR]     DIR is $VELIN_WINDOWS_DIR, else ~/.cache/velin/windows
#
# Does nothing when DIR is complete. `. DIR/env` then sets up a shell for cargo (`--target
# x86_64-pc-windows-gnu`), and `DIR/run PROGRAM.exe` runs a Windows program.
#
# It exits with 75 when something cannot be had here (no apt, no PyPI, no crates.io, not Debian), and
# with another failure when something that was had does not work.
set -euo pipefail

readonly GSTREAMER=1.28.7
# The wheels of that version for win_amd64, and the SHA-256 of each. Those with the codecs' libraries
# are left out.
readonly WHEELS=(
    gstreamer-cli=d89e0036f9cdcc1f2bbb8b6fd6ac2fb3fdc1cb00fbe35e89cdebc83d6aaa183d
    gstreamer-ext-runtime=838f7543ca718d05536cfe785d685a372b318505119f2190be59307a2a8a78f2
    gstreamer-libs=ea81c0f3aba25ca53053202b274c9a05e71037761def9e2dbb172982e8e961bf
    gstreamer-plugins=960f8cc19f4c4dfb460e782b1c8a426e95d06a300195b6f356319731a3a2b70b
)
readonly GNU=x86_64-pc-windows-gnu MSVC=x86_64-pc-windows-msvc

# From the system. Everything else is unpacked in DIR, so that no compiler gets in the way of
# the one that is installed.
readonly PACKAGES=(gcc-mingw-w64-x86-64-posix mingw-w64-tools wine wine64 pkg-config gcc libc6-dev)

# The plugins that the tests and velin-pipe use; scanning hundreds more takes longer than the tests.
readonly PLUGINS=(app audioconvert audiomixer audioparsers audioresample audiotestsrc autodetect
    coreelements interleave level playback typefindfunctions volume wasapi wasapi2 wavenc
    wavparse)

PATH="$PATH:$HOME/.cargo/bin"
script=$(realpath "$0")

main() {
    dir=$(realpath -m "${1:-${VELIN_WINDOWS_DIR:-$HOME/.cache/velin/windows}}")
    stamp=$(sha256sum <"$script")
    started=$SECONDS

    step "packages" install_packages
    if [ "$(cat "$dir/complete" 2>/dev/null)" = "$stamp" ]; then
        return 0
    fi
    mkdir -p "$dir"
    exec 9>"$dir/lock"
    flock 9 # two at once would tread on each other
    if [ "$(cat "$dir/complete" 2>/dev/null)" = "$stamp" ]; then
        return 0
    fi
    say "filling $dir (once)"
    find "$dir" -mindepth 1 -maxdepth 1 ! -name lock -exec rm -rf {} +

    step "the compiler" unpack_compiler
    step "GStreamer $GSTREAMER" unpack_gstreamer
    step "the standard library" build_std
    step "import libraries" make_import_libraries
    write_env
    step "the Wine prefix" make_prefix
    rm -rf "$dir/download"
    echo "$stamp" >"$dir/complete"
    say "complete after $((SECONDS - started)) s: $(du -sh "$dir" | cut -f 1) in $dir"
}

install_packages() {
    local missing=() package
    for package in "${PACKAGES[@]}"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
            missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || unavailable "there is no apt-get to install: ${missing[*]}"
    say "installing: ${missing[*]}"
    as_root apt-get -o DPkg::Lock::Timeout=300 update -qq ||
        say "apt-get update failed: trying with the package lists at hand"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 \
        install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
        unavailable "apt-get could not install: ${missing[*]}"
}

# Debian keeps a recent compiler for its browsers (rustc-web) together with its sources
# (rust-web-src). Only a standard library from the very same sources fits a compiler; that is why
# the installed one is of no use here.
unpack_compiler() {
    local wanted package
    command -v apt-cache >/dev/null || unavailable "there is no apt to get a compiler from"
    mapfile -t wanted < <(
        apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks \
            --no-replaces --no-enhances rustc-web rust-web-clippy 2>/dev/null |
            grep -E '^(rustc-web|rust-web-clippy|libstd-rust-web-[a-z0-9.]+|libllvm[0-9]+)$' | sort -u
    )
    mkdir -p "$dir/download"
    (cd "$dir/download" && apt-get -o APT::Sandbox::User=root download -qq "${wanted[@]}" rust-web-src) ||
        unavailable "apt-get could not download rustc-web, rust-web-clippy and rust-web-src"
    for package in "$dir"/download/*.deb; do dpkg -x "$package" "$dir/rust"; done

    # Its LLVM is not among the system's libraries.
    mkdir -p "$dir/bin"
    for package in rustc rustdoc cargo-clippy; do
        cat >"$dir/bin/$package" <<END
#!/bin/sh
LD_LIBRARY_PATH=$dir/rust/usr/lib/x86_64-linux-gnu exec $dir/rust/usr/bin/$package "\$@"
END
        chmod +x "$dir/bin/$package"
    done
    "$dir/bin/rustc" --version
}

# The standard library goes where the compiler looks for it: from then on this is a plain stable
# toolchain with two more targets. The MSVC one is for `cargo check` only, which needs no code.
build_std() {
    local source="$dir/std"
    mkdir -p "$source"
    cat >"$source/Cargo.toml" <<'END'
[package]
name = "std-for-windows"
version = "0.0.0"
edition = "2021"

[lib]
path = "lib.rs"

[profile.release]
strip = "debuginfo"
END
    : >"$source/lib.rs"

    local std=(-Zbuild-std=std,panic_unwind,panic_abort,test,proc_macro)
    export RUSTC="$dir/bin/rustc" RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$source/target"
    (cd "$source" && cargo fetch -q "${std[@]}" --target $GNU) ||
        unavailable "cargo could not download what Rust's standard library is made of"
    (
        cd "$source"
        cargo build -q --offline --release "${std[@]}" --target $GNU
        cargo check -q --offline --release "${std[@]}" --target $MSVC
    )
    local target library
    for target in $GNU $MSVC; do
        library="$dir/rust/usr/lib/rustlib/$target/lib"
        mkdir -p "$library"
        if [ $target = $GNU ]; then
            cp "$source/target/$target/release/deps/"*.rlib "$library"
        else
            cp "$source/target/$target/release/deps/"*.rmeta "$library"
        fi
        rm -f "$library/libstd_for_windows"*
    done
    unset RUSTC RUSTC_BOOTSTRAP CARGO_TARGET_DIR
    rm -rf "$source" "$dir/rust/usr/src" "$dir/rust/usr/share"
}

# GStreamer's project publishes its Windows build (made with MSVC) as Python wheels, too.
unpack_gstreamer() {
    local python=python3 wheels="$dir/download/wheels"
    "$python" -m pip --version >/dev/null 2>&1 || {
        as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends python3-pip >/dev/null ||
            unavailable "apt-get could not install python3-pip"
        python=/usr/bin/python3
    }
    mkdir -p "$wheels"
    local wheel
    for wheel in "${WHEELS[@]}"; do
        echo "${wheel%=*}==$GSTREAMER --hash=sha256:${wheel#*=}"
    done >"$wheels/list"
    "$python" -m pip download -q --disable-pip-version-check --no-deps --require-hashes \
        --only-binary=:all: --platform win_amd64 --python-version 3.12 -d "$wheels" -r "$wheels/list" ||
        unavailable "pip could not download GStreamer $GSTREAMER for Windows from PyPI"
    "$python" - "$wheels" "$dir/gstreamer" "${PLUGINS[@]}" <<'END'
import pathlib, sys, zipfile

wheels, root = map(pathlib.Path, sys.argv[1:3])
plugins = {f"gst{name}.dll" for name in sys.argv[3:]}
for wheel in wheels.glob("*.whl"):
    archive = zipfile.ZipFile(wheel)
    for name in archive.namelist():
        parts = name.split("/")  # X.data/purelib/PACKAGE/bin/…
        if len(parts) < 5 or parts[1] != "purelib" or name.endswith("/"):
            continue
        path = parts[3:]
        plugin = path[:2] == ["lib", "gstreamer-1.0"] and path[-1] in plugins
        program = path[-1] in ("gst-inspect-1.0.exe", "gst-launch-1.0.exe")
        library = path[0] == "bin" and path[-1].endswith(".dll")
        if not (plugin or program or library or path[0] == "libexec"):
            continue
        target = root.joinpath(*path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(archive.read(name))
missing = plugins - {path.name for path in (root / "lib").rglob("*.dll")}
if missing:
    sys.exit(f"windows-setup: GStreamer's wheels lack {', '.join(sorted(missing))}")
END
}

# The wheels hold what programs run with. What they are linked with is made from that: a library of
# the names in each DLL, and a description for pkg-config.
make_import_libraries() {
    mkdir -p "$dir/lib" "$dir/pkgconfig"
    local glib=2.82.0 name # any version that the glib crate is content with
    import_library glib-2.0 glib-2.0 $glib ""
    for name in gobject gmodule gio; do
        import_library $name-2.0 $name-2.0 $glib glib-2.0
    done
    import_library gstreamer-1.0 gstreamer-1.0 $GSTREAMER gobject-2.0
    for name in app audio base check; do
        import_library gstreamer-$name-1.0 gst$name-1.0 $GSTREAMER gstreamer-1.0
    done
}

import_library() { # name for pkg-config, library, version, what it needs
    local definitions="$dir/lib/$2.def"
    gendef - "$dir/gstreamer/bin/$2-0.dll" >"$definitions" 2>/dev/null
    x86_64-w64-mingw32-dlltool -d "$definitions" -D "$2-0.dll" -l "$dir/lib/lib$2.dll.a"
    rm "$definitions"
    cat >"$dir/pkgconfig/$1.pc" <<END
Name: $1
Description: $1
Version: $3
Requires: $4
Libs: -L$dir/lib -l$2
END
}

write_env() {
    # Wine looks for DLLs in WINEPATH; nothing of it appears on a screen, asks for a browser engine
    # or leaves menu entries behind.
    cat >"$dir/run" <<END
#!/bin/sh
export WINEPREFIX=$dir/wine WINEDEBUG=\${WINEDEBUG:--all} DISPLAY=
export WINEDLLOVERRIDES='mscoree,mshtml=;winemenubuilder.exe=d' LC_ALL=C.UTF-8
export WINEPATH='Z:${dir//\//\\}\\gstreamer\\bin'
export GST_REGISTRY="\${VELIN_WINDOWS_REGISTRY:-Z:${dir//\//\\}\\registry.bin}"
exec wine "\$@"
END
    chmod +x "$dir/run"

    # For MSVC nothing is ever linked. What C there is, MinGW's compiler looks through, and its
    # archiver stands in for the one that is asked for.
    cat >"$dir/bin/lib" <<'END'
#!/bin/sh
for argument; do
    shift
    case $argument in
    -out:*) out=${argument#-out:} ;;
    -*) ;;
    *) set -- "$@" "$argument" ;;
    esac
done
exec x86_64-w64-mingw32-ar rcs "$out" "$@"
END
    chmod +x "$dir/bin/lib"
    cat >"$dir/env" <<END
export RUSTC=$dir/bin/rustc RUSTDOC=$dir/bin/rustdoc
export PKG_CONFIG_ALLOW_CROSS=1
export PKG_CONFIG_LIBDIR_x86_64_pc_windows_gnu=$dir/pkgconfig
export PKG_CONFIG_LIBDIR_x86_64_pc_windows_msvc=$dir/pkgconfig
export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER=x86_64-w64-mingw32-gcc-posix
export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER=$dir/run
export CC_x86_64_pc_windows_gnu=x86_64-w64-mingw32-gcc-posix
export CC_x86_64_pc_windows_msvc=x86_64-w64-mingw32-gcc-posix
export AR_x86_64_pc_windows_msvc=$dir/bin/lib
END
}

make_prefix() {
    # Wine's helpers outlive what they were started for, and would keep our output open.
    trap 'WINEPREFIX="$dir/wine" wineserver -k' EXIT
    "$dir/run" wineboot --init >"$dir/wine.log" 2>&1
    local system="$dir/wine/drive_c/windows/system32"
    [ -e "$system/bcryptprimitives.dll" ] || make_random_dll "$system/bcryptprimitives.dll"
    "$dir/run" "$dir/gstreamer/bin/gst-inspect-1.0.exe" audiotestsrc |
        grep -q 'Long-name' || fail "GStreamer does not run under Wine"
}

# Rust takes its random numbers from a DLL that Wine 8 does not have yet.
make_random_dll() {
    cat >"$dir/download/random.c" <<'END'
#include <windows.h>
#include <ntsecapi.h>

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE bytes, SIZE_T length)
{
    return length <= 0x7fffffff && RtlGenRandom(bytes, (ULONG)length);
}
END
    x86_64-w64-mingw32-gcc-posix -O2 -shared -o "$1" "$dir/download/random.c" -ladvapi32
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -n "$@"
    else
        unavailable "packages are missing, and there is no sudo to install them"
    fi
}

step() {
    local name=$1 since=$SECONDS
    "${@:2}"
    [ $((SECONDS - since)) -eq 0 ] || say "$name: $((SECONDS - since)) s"
}

say() { echo "windows-setup: $*"; }

unavailable() {
    echo "windows-setup: not to be had here: $*" >&2
    exit 75
}

fail() {
    echo "windows-setup: $*" >&2
    exit 1
}

main "$@"
