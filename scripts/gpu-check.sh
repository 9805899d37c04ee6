#!/usr/bin/env bash
# On a machine with an NVIDIA GPU: the parity suites, then a picture, then the benchmark beside PyTorch. Nothing is fetched or
# compiled but kernels: scripts/gpu-pack.sh made the archive elsewhere.
#
#   scripts/gpu-check.sh ARCHIVE [suite|sample|bench]... [-- FILTER]       all three unless named
#
# FILTER picks the benchmark's networks by a part of their label, such as "improved-diffusion U-Net, batch 64".
# WMGM_BENCH_SECONDS (default 300): how long the benchmark may begin new comparisons. torch.compile takes about a minute for
# each. Exit status 1 if a suite fails.
set -euo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
archive=${1:?usage: scripts/gpu-check.sh ARCHIVE [suite|sample|bench]... [-- FILTER]}
shift
parts=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do parts+=("$1"); shift; done
if [ "${1:-}" = -- ]; then shift; fi
filter=${1:-}
if [ ${#parts[@]} = 0 ]; then parts=(suite sample bench); fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Python unpacks xz where the system has no xz.
"${WMGM_PYTHON:-python3}" -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2], filter="data")' "$archive" "$work"
chmod +x "$work"/*
export WMGM_ROOT=$repository WMGM_TEST_DEVICE=cuda WMGM_BENCH_DEVICE=cuda WMGM_BENCH_SECONDS=${WMGM_BENCH_SECONDS:-300}
run() { "$repository/scripts/gpu-libraries.sh" "$@"; }
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || true

failed=0
for part in "${parts[@]}"; do
    case $part in
        suite)
            # The suites skip where there is no device; here there must be one.
            run "$work/wmgm" sample --device cuda --count 1 --out "$work/first.png" || exit 1
            for suite in "$work"/parity-*; do run "$suite" --test-threads 1 || failed=1; done
            ;;
        sample)
            for type in f32 tf32 bf16 f16; do
                run "$work/wmgm" sample --device cuda --dtype $type --count 256 --batch 256 --out "${OUT:-$work}/samples-$type.png" || failed=1
            done
            ;;
        bench) run "$work/networks" ${filter:+"$filter"} || failed=1 ;;
        *) echo "error: $part is not suite, sample or bench" >&2; exit 2 ;;
    esac
done
exit $failed
