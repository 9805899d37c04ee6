#!/usr/bin/env bash
# Compiles nn-ops with its CUDA and cuDNN code against the real headers' versions: no kernel of candle's, no link, no GPU.
# What the kernels in kernels.cu compute is not checked here, that they compile is. Needs python3 with pip, x86-64 Linux.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cuda=${CARGO_TARGET_DIR:-$PWD/target}/cuda
scripts/cuda-toolkit.sh "$cuda"
export LEAN=check
. "$cuda/env.sh"
cargo clippy --locked -p nn-ops --lib --features cuda,cudnn -- -D warnings
nvcc -ptx -arch=compute_80 -o /dev/null crates/nn-ops/src/cuda/kernels.cu
