#!/usr/bin/env bash
# Runs every fuzz target of velin-core for a while, from the corpus in the repository.
#
#   scripts/fuzz.sh [SECONDS [TARGET...]]    each target for SECONDS (60)
#   scripts/fuzz.sh --minimise [TARGET...]   writes the corpus anew, as small as its coverage allows
#
# New inputs are kept in gst-velin/core/fuzz/target/found, outside of the repository; --minimise takes
# what is worth keeping from there. It needs a nightly compiler (rustup toolchain install nightly) and
# cargo-fuzz (cargo install cargo-fuzz --locked). VELIN_FUZZ_SANITIZER=none is several times as fast, and
# the core itself forbids unsafe code. An input that ends in a panic is left in
# gst-velin/core/fuzz/artifacts: write an ordinary test for it, repair the fault, and add the input to the
# corpus.
set -euo pipefail
cd "$(dirname "$0")/../gst-velin/core"
PATH="$PATH:$HOME/.cargo/bin"

# A file of the corpus is not longer than this.
longest=4096
# Files of the corpus, for each target: tests/corpus.rs allows no more.
most=60

main() {
    cargo fuzz --version >/dev/null 2>&1 || fail "no cargo-fuzz here; cargo install cargo-fuzz --locked"
    cargo +nightly --version >/dev/null 2>&1 || fail "no nightly compiler; rustup toolchain install nightly"
    all=$(cd fuzz/fuzz_targets && ls -- *.rs | sed 's/\.rs$//')
    cargo +nightly fuzz build --sanitizer "${VELIN_FUZZ_SANITIZER:-address}"
    programs=fuzz/target/$(rustc +nightly -vV | sed -n 's/^host: //p')/release

    if [ "${1:-}" = --minimise ]; then
        shift
        for target in ${*:-$all}; do minimise "$target"; done
        return
    fi
    seconds=${1:-60}
    shift || true
    for target in ${*:-$all}; do
        echo "fuzz: $target for $seconds s"
        found="fuzz/target/found/$target"
        mkdir -p "$found" "fuzz/artifacts/$target"
        "$programs/$target" "$found" "fuzz/corpus/$target" $(dictionary "$target") \
            -max_total_time="$seconds" -max_len="$longest" -timeout=10 -rss_limit_mb=2048 \
            -print_final_stats=1 -artifact_prefix="fuzz/artifacts/$target/" 2>"fuzz/target/$target.log" || {
            tail -40 "fuzz/target/$target.log" >&2
            fail "$target: see fuzz/artifacts/$target and fuzz/target/$target.log"
        }
        grep -E '^#[0-9]+.DONE' "fuzz/target/$target.log" | tail -1
    done
}

# Keeps the fewest files that reach every line that any reaches; the longest, if they are too many: they reach most.
minimise() {
    target=$1
    corpus="fuzz/corpus/$target"
    small=$(mktemp -d)
    mkdir -p "fuzz/target/found/$target"
    "$programs/$target" -set_cover_merge=1 -use_counters=0 -max_len="$longest" \
        -artifact_prefix="fuzz/artifacts/$target/" "$small" "$corpus" "fuzz/target/found/$target" \
        2>"fuzz/target/$target.merge.log"
    find "$corpus" -type f -delete
    # libFuzzer names a file by what is in it.
    ls -S "$small" | head -n "$most" | while read -r file; do cp "$small/$file" "$corpus/"; done
    echo "fuzz: $target: $(ls "$small" | wc -l) inputs, $(ls "$corpus" | wc -l) kept," \
        "$(du -sb "$corpus" | cut -f1) bytes"
    rm -r "$small"
}

dictionary() {
    [ ! -f "fuzz/dicts/$1.dict" ] || echo "-dict=fuzz/dicts/$1.dict"
}

fail() {
    echo "fuzz: $*" >&2
    exit 1
}

main "$@"
