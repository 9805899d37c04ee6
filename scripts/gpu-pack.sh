#!/usr/bin/env bash
# Builds what scripts/gpu-check.sh runs (the program, the parity suites, the benchmark) for a machine with a GPU, and packs
# it into one archive; needs no GPU.
#
#   . ~/.cache/wmgm-cuda/env.sh && scripts/gpu-pack.sh [ARCHIVE]      default target/gpu-check.tar.xz
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
archive=${1:-${CARGO_TARGET_DIR:-target}/gpu-check.tar.xz}
features=(--locked --release --features cuda,cudnn)
packed=$(mktemp -d)
trap 'rm -rf "$packed"' EXIT

# Prints the path of each executable that cargo makes of these arguments.
built() {
    cargo "$@" --message-format json-render-diagnostics | python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable"):
        print(message["target"]["name"], message["executable"])'
}

{
    built build "${features[@]}" -p wmgm --bin wmgm
    built test "${features[@]}" -p nn-ops --test parity --no-run
    built test "${features[@]}" -p wmgm --test parity --no-run
    built bench --locked --features cuda,cudnn -p bench --bench networks --no-run
} | while read -r name path; do
    # The two suites have one name in two crates.
    case $path in *"/parity-"*) name=parity-$(basename "$path" | cut -c8-) ;; esac
    strip -o "$packed/$name" "$path" 2>/dev/null || cp "$path" "$packed/$name"
done
XZ_OPT="-6 -T0" tar -C "$packed" -cJf "$archive" .
ls -l "$packed"
echo "packed: $archive, $(stat -c %s "$archive") bytes"
