#!/usr/bin/env bash
# The licences of every crate that is linked into the plugin or velin-pipe.
#
#   scripts/licences.sh            prints the list (what docs/licences.md holds)
#   scripts/licences.sh --check    fails when docs/licences.md is not up to date
#   scripts/licences.sh --update   writes docs/licences.md
#
# In every form it fails when a crate's licence is not among those that Velin accepts.
set -euo pipefail
cd "$(dirname "$0")/.."

list() {
    "${CARGO:-cargo}" metadata --locked --format-version 1 | python3 -c "$program"
}

program=$(cat <<'PYTHON'
import json, re, sys

# Permissive licences, and the one (MPL) that asks for changes to its own files only.
ACCEPTED = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause",
    "BSL-1.0", "CC0-1.0", "CDLA-Permissive-2.0", "ISC", "MIT", "MIT-0", "MPL-2.0", "Unicode-3.0",
    "Unlicense", "Zlib",
}

def accepted(expression):
    """Evaluates an SPDX expression; a slash is an old way to write OR."""
    tokens = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))
    def alternatives():
        value = conjunction()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            value = conjunction() or value
        return value
    def conjunction():
        value = licence()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            value = licence() and value
        return value
    def licence():
        name = tokens.pop(0)
        if name == "(":
            value = alternatives()
            tokens.pop(0)
            return value
        if tokens and tokens[0] == "WITH":
            name = f"{name} WITH {tokens[1]}"
            del tokens[:2]
        return name in ACCEPTED
    return alternatives()

metadata = json.load(sys.stdin)
packages = {package["id"]: package for package in metadata["packages"]}
nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
ours = set(metadata["workspace_members"])
reached, waiting = set(), [i for i in ours if packages[i]["name"] in ("gst-velin", "velin-pipe")]
while waiting:
    node = waiting.pop()
    if node in reached:
        continue
    reached.add(node)
    waiting += [
        dep["pkg"] for dep in nodes[node]["deps"]
        if any(kind["kind"] is None for kind in dep["dep_kinds"])
    ]

rows, refused = set(), []
for package in (packages[i] for i in reached - ours):
    licence = package["license"] or f"see its file {package['license_file']}"
    rows.add((package["name"], licence, package["repository"] or ""))
    if not (package["license"] and accepted(package["license"])):
        refused.append(f"{package['name']} {package['version']}: {licence}")

print("""# Licences

Velin itself is under [MIT](../LICENSE-MIT) or [Apache-2.0](../LICENSE-APACHE), at your choice.

GStreamer and its plugins, GLib and the sound systems' client libraries are used as shared libraries
of the system; they are under the LGPL 2.1 or later (plugins of the *bad* set: see each), and are not
part of what is built here.

The crates below are linked into the plugin or `velin-pipe` on at least one platform. The list is made
by `scripts/licences.sh --update`.

| Crate | Licence | Source |
|---|---|---|""")
for name, licence, source in sorted(rows):
    print(f"| {name} | {licence} | {source} |")

if refused:
    print("licences: not accepted:", *refused, sep="\n  ", file=sys.stderr)
    print("licences: replace the crate, or add its licence in scripts/licences.sh with a reason",
          file=sys.stderr)
    sys.exit(1)
PYTHON
)

case "${1:-}" in
"") list ;;
--check)
    list | diff -u docs/licences.md - >&2 || {
        echo "licences: docs/licences.md is out of date; run scripts/licences.sh --update" >&2
        exit 1
    }
    ;;
--update)
    new=$(list)
    printf '%s\n' "$new" >docs/licences.md
    ;;
*)
    sed -n '2,/^$/s/^# \{0,1\}//p' "$0" | grep -v '^!' >&2
    exit 2
    ;;
esac
