#!/usr/bin/env bash
# Checks the dependencies with cargo-deny: licences, banned crates, sources, and known vulnerabilities.
#
# Without cargo-deny it says so and succeeds: the licences are checked by `make test` in any case. The
# list of vulnerabilities is a Git repository (github.com/rustsec/advisory-db); where that cannot be
# reached, only this part is left out, and it says so.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PATH:$HOME/.cargo/bin"

if ! cargo deny --version >/dev/null 2>&1; then
    echo "deny: no cargo-deny here, nothing was checked; cargo install cargo-deny --locked"
    exit 0
fi
cargo deny --locked --log-level error check bans licenses sources
if cargo deny --locked --log-level error fetch db 2>/dev/null; then
    cargo deny --locked --log-level error check advisories
else
    echo "deny: the list of known vulnerabilities cannot be fetched here; advisories are NOT checked"
fi
