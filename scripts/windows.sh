#!/usr/bin/env bash
# Velin for Windows, from Debian 12: built, linted, and tested under Wine.
#
#   scripts/windows.sh [STEP]...      without arguments: all of them, in this order
#
#   setup     what is needed, downloaded and put together once (scripts/windows-setup.sh)
#   build     the plugin and velin-pipe, for x86_64-pc-windows-gnu
#   test      the tests of velin-core, gst-velin and velin-pipe's library, under Wine
#   lint      clippy, warnings are errors
#   check     `cargo check` for x86_64-pc-windows-msvc
#   smoke     GStreamer's own Windows programs find the elements; velin-pipe starts
#   link      tests/windows.rs: sound from Linux to Windows and back
#
# Where `setup` cannot have what it needs (no Debian, no network), that is said, nothing else is done,
# and it is no failure. VELIN_WINDOWS_DIR is where it keeps that, target/windows what is built.
# VELIN_SKIP_WINDOWS=1 skips everything.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PATH:$HOME/.cargo/bin"

readonly GNU=x86_64-pc-windows-gnu MSVC=x86_64-pc-windows-msvc
# Stands for the elements' tests if they do not even run.
readonly NO_TESTS=-
readonly STEPS=(setup build test lint check smoke link)
# Seconds for everything. When they are over in the set-up, the rest is skipped; after it, something
# hangs, and that is a failure.
readonly LIMIT=${VELIN_WINDOWS_LIMIT:-2700}

main() {
    if [ -n "${VELIN_SKIP_WINDOWS:-}" ]; then
        say "skipped: VELIN_SKIP_WINDOWS is set"
        return 0
    fi
    export VELIN_WINDOWS_DIR=${VELIN_WINDOWS_DIR:-$HOME/.cache/velin/windows}
    export CARGO_TARGET_DIR="$PWD/target/windows" CARGO_INCREMENTAL=0

    local wanted=("$@") step
    [ ${#wanted[@]} -gt 0 ] || wanted=("${STEPS[@]}")
    # Wine's helpers stay for the next program. They would keep this script's output open.
    trap stop_wine EXIT
    for step in "${wanted[@]}"; do
        [[ " ${STEPS[*]} " == *" $step "* ]] || die "unknown step '$step'; the steps are: ${STEPS[*]}"
        timed "$step"
    done
}

timed() {
    local since=$SECONDS left=$((LIMIT - SECONDS)) status=0
    [ $left -gt 0 ] || left=1
    if [ "$1" = setup ]; then
        set_up "$left"
    else
        [ -r "$VELIN_WINDOWS_DIR/env" ] || die "nothing is set up: run scripts/windows.sh setup"
        # In a process of its own, so that a step that hangs can be ended with all that it started.
        timeout --kill-after=10 "$left" bash -euo pipefail -c "$(declare -f); $(variables); step_$1" ||
            status=$?
        [ $status -ne 124 ] || die "$1 was not done when the $LIMIT s were over (VELIN_WINDOWS_LIMIT)"
        [ $status -eq 0 ] || die "$1 failed ($status)"
    fi
    say "$1: $((SECONDS - since)) s"
}

set_up() {
    local status=0
    timeout --kill-after=10 "$1" scripts/windows-setup.sh "$VELIN_WINDOWS_DIR" || status=$?
    case $status in
    0) ;;
    75)
        say "SKIPPED: see above what is not to be had here"
        exit 0
        ;;
    124 | 137)
        say "SKIPPED: the set-up was not done when the $LIMIT s were over (VELIN_WINDOWS_LIMIT)"
        exit 0
        ;;
    *) die "setup failed ($status)" ;;
    esac
}

# The features of the tests, so that what they are built from is not built twice.
step_build() {
    environment
    cargo build --locked --profile windows --target $GNU -p gst-velin -p velin-pipe \
        --features velin-core/nonce-guard
    # A folder with nothing else that GStreamer would try to load.
    mkdir -p "$out/gst-plugins"
    cp "$out/gstvelin.dll" "$out/gst-plugins/"
}

# Without the tests of documentation: they are the same text on every system. The elements play in real
# time, which Wine keeps only roughly: one at a time, and what failed is tried again.
# Wine loses a program now and then before it begins, and says "wine client error". Only then are
# tests run a second time: one that fails by itself has failed.
whole() {
    local test=(cargo test --locked --profile windows --target $GNU --no-fail-fast "$@") log
    log=$(mktemp)
    "${test[@]}" 2>&1 | tee "$log" && return 0
    grep -q '^wine client error' "$log" || return 1
    echo "again: $*"
    "${test[@]}"
}

step_test() {
    environment
    export GST_PLUGIN_PATH=
    whole -p velin-core --lib --tests
    whole -p gst-velin --lib
    whole -p velin-pipe --lib --features velin-core/nonce-guard
    local failed=() again
    mapfile -t failed < <(elements)
    for again in 1 2 3; do
        [ ${#failed[@]} -gt 0 ] || return 0
        [ "${failed[0]}" != "$NO_TESTS" ] || return 1
        echo "elements, attempt $((again + 1)): ${failed[*]}"
        mapfile -t failed < <(elements --exact "${failed[@]}")
    done
    [ ${#failed[@]} -eq 0 ] || die "failed four times: ${failed[*]}"
}

# Runs the elements' tests, one at a time; prints the names of those that failed.
elements() {
    local log status=0
    log=$(mktemp)
    cargo test --locked --profile windows --target $GNU -p gst-velin --test elements -- \
        --test-threads=1 "$@" >"$log" 2>&1 || status=$?
    cat "$log" >&2
    # The list at the end: what a test prints may stand between its name and its result.
    tr -d '\r' <"$log" | awk '/^failures:$/ { list = ""; on = 1; next }
        /^test result:/ { on = 0 }
        on && /^    [a-z_0-9:]+$/ { list = list $1 "\n" }
        END { printf "%s", list }' | sort -u | grep . || [ $status -eq 0 ] || echo "$NO_TESTS"
    rm -f "$log"
}

# The compiler's own clippy: the installed one belongs to another compiler.
step_lint() {
    environment
    "$VELIN_WINDOWS_DIR/bin/cargo-clippy" clippy --locked --profile windows --target $GNU \
        -p velin-core -p gst-velin -p velin-pipe --lib --bins -- -D warnings
    "$VELIN_WINDOWS_DIR/bin/cargo-clippy" clippy --locked --profile windows --target $GNU \
        -p velin-core -p gst-velin --tests -- -D warnings
}

step_check() {
    environment
    cargo check --locked --profile windows --target $MSVC -p gst-velin -p velin-pipe
}

step_smoke() {
    local run="$VELIN_WINDOWS_DIR/run" programs="$VELIN_WINDOWS_DIR/gstreamer/bin" element
    for element in velinsink velinsrc; do
        GST_PLUGIN_PATH=$(windows_path "$out/gst-plugins") \
            VELIN_WINDOWS_REGISTRY=$(windows_path "$out/registry.bin") \
            "$run" "$programs/gst-inspect-1.0.exe" $element | tr -d '\r' >"$out/$element.txt"
        grep -q "^Factory Details" "$out/$element.txt" || die "gst-inspect-1.0.exe lists no $element"
    done
    "$run" "$out/velin-pipe.exe" --version | tr -d '\r' | tee "$out/version.txt"
    grep -q '^velin-pipe [0-9]' "$out/version.txt" || die "velin-pipe.exe does not tell its version"
}

# The Linux half is built as `make test` builds it, with the installed compiler. Tried again as the
# elements' tests are, for the same reason.
step_link() {
    unset CARGO_TARGET_DIR
    local attempt
    for attempt in 1 2 3; do
        GST_REGISTRY="$PWD/target/gstreamer-registry.bin" GST_PLUGIN_PATH= VELIN_REQUIRE_WINDOWS=1 \
            cargo test --locked -p velin --test windows && return 0
        echo "link, attempt $attempt failed"
    done
    return 1
}

environment() {
    # shellcheck disable=SC1091 # it is not there yet
    . "$VELIN_WINDOWS_DIR/env"
    # libopus is built with CMake (scripts/setup.sh build). Where nothing is ever linked, no library is
    # needed, and there is no Visual Studio to make one with.
    export CMAKE_x86_64_pc_windows_msvc=true CMAKE_GENERATOR_x86_64_pc_windows_msvc=Ninja
}

variables() {
    echo "readonly GNU=$GNU MSVC=$MSVC NO_TESTS=$NO_TESTS; out=$CARGO_TARGET_DIR/$GNU/windows"
}

windows_path() { printf 'Z:%s' "${1//\//\\}"; }

stop_wine() {
    [ ! -d "$VELIN_WINDOWS_DIR/wine" ] || WINEPREFIX="$VELIN_WINDOWS_DIR/wine" wineserver -k || true
}

say() { echo "windows: $*"; }

die() {
    echo "windows: $*" >&2
    exit 1
}

main "$@"
