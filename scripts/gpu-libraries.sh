#!/usr/bin/env bash
# Runs a program with the CUDA libraries that came with a Python's PyTorch (packages nvidia-*), where no CUDA is installed.
#
#   scripts/gpu-libraries.sh PROGRAM [ARGUMENTS]     WMGM_PYTHON names the Python, python3 unless given
#
# The driver's own libcuda.so must be where the system looks, as it is where `nvidia-smi` works.
set -euo pipefail
python=${WMGM_PYTHON:-python3}
packages=$("$python" -c 'import nvidia; print(*nvidia.__path__, sep="\n")' | head -1) || {
    echo "error: $python has no nvidia packages; install torch, or set LD_LIBRARY_PATH yourself" >&2
    exit 1
}
# Packages hold libcublas.so.13, programs ask for libcublas.so first: one folder of links has both.
links=$(mktemp -d)
for library in "$packages"/*/lib/lib*.so.*; do
    name=$(basename "$library")
    ln -sf "$library" "$links/$name"
    ln -sf "$library" "$links/${name%%.so.*}.so"
done
export LD_LIBRARY_PATH=$links${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
status=0
"$@" || status=$?
rm -rf "$links"
exit "$status"
