#!/usr/bin/env bash
# Builds what scripts/gpu-check.sh runs (the program, the parity suites, the benchmark) for a machine with a GPU, and packs
# it into one archive; needs no GPU.
#
#   . ~/.cache/wmgm-cuda/env.sh && scripts/gpu-pack.sh [ARCHIVE]      default target/gpu-check.tar.xz
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
archive=${1:-${CARGO_TARGET_DIR:-target}/gpu-check.tar.xz}
packed=$(mktemp -d)
trap 'rm -rf "$packed"' EXIT

# One build makes all of it, and so each dependency once: tests of wmgm come with the program.
cargo test --locked --release --workspace --features cuda,cudnn --test parity --bench networks --no-run \
    --message-format json-render-diagnostics | python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable"):
        print(message["target"]["name"], message["executable"])' | while read -r name path; do
    case $name in
        # The suites have one name in several crates.
        parity) name=parity-${path##*-} ;;
        wmgm | networks) ;;
        *) continue ;;
    esac
    strip -o "$packed/$name" "$path" 2>/dev/null || cp "$path" "$packed/$name"
done
XZ_OPT="-6 -T0" tar -C "$packed" -cJf "$archive" .
ls -l "$packed"
echo "packed: $archive, $(stat -c %s "$archive") bytes"
