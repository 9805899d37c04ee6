#!/usr/bin/env bash
# Puts together what a build with `--features cuda,cudnn` needs where no CUDA toolkit is installed: nvcc, headers, the
# static CUDA runtime and link stubs, out of NVIDIA's wheels on PyPI. Nothing outside its folder is touched.
#
#   scripts/cuda-toolkit.sh [FOLDER]          default: $XDG_CACHE_HOME/wmgm-cuda, that is ~/.cache/wmgm-cuda
#   . FOLDER/env.sh && cargo build --release --features cuda,cudnn
#
# Wants x86-64 Linux, python3 with pip, a C compiler, about 600 MB. Running it again does nothing. docs/gpu.md explains.
set -euo pipefail

if [ "$(uname -sm)" != "Linux x86_64" ]; then
    echo "error: these wheels are for x86-64 Linux; elsewhere install NVIDIA's toolkit and build as usual" >&2
    exit 1
fi
for tool in python3 cc; do
    command -v "$tool" >/dev/null || { echo "error: $tool is missing" >&2; exit 1; }
done
python3 -m pip --version >/dev/null || { echo "error: python3 has no pip; on Debian: apt-get install python3-pip" >&2; exit 1; }

# CUDA 13.0: the newest that a driver of the 580 series runs without its compatibility package.
version=13.0
wheels=(
    nvidia-cuda-nvcc==13.0.88     # nvcc, ptxas, fatbinary
    nvidia-cuda-crt==13.0.88      # headers that nvcc includes by itself
    nvidia-nvvm==13.0.88          # the compiler behind nvcc
    nvidia-cuda-runtime==13.0.96  # cuda.h and the runtime, static and shared
    nvidia-cuda-cccl==13.0.85     # headers of the kernels' library
)
root=$(realpath -m "${1:-${XDG_CACHE_HOME:-$HOME/.cache}/wmgm-cuda}")
if [[ $root == *" "* ]]; then
    echo "error: nvcc fails in folders with spaces in their names: $root" >&2
    exit 1
fi
# The script itself is part of the stamp: what it makes changes with it.
stamp="$(cksum <"$0") ${wheels[*]}"
if [ "$(cat "$root/stamp" 2>/dev/null || true)" = "$stamp" ]; then
    echo "up to date: $root"
    exit 0
fi

new=$root.new
rm -rf "$new"
mkdir -p "$new/wheels"
trap 'rm -rf "$new"' EXIT
echo "fetching ${#wheels[@]} wheels of CUDA $version from PyPI"
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --platform manylinux_2_12_x86_64 \
    --platform manylinux2010_x86_64 --dest "$new/wheels" "${wheels[@]}"
for wheel in "$new"/wheels/*.whl; do
    python3 -m zipfile -e "$wheel" "$new/unpacked"
done
mv "$new/unpacked/nvidia/cu13" "$new/toolkit"
rm -rf "$new/wheels" "$new/unpacked"
cd "$new/toolkit"
# Wheels carry no permission to execute when unpacked by Python.
chmod +x bin/* nvvm/bin/*

# The runtime: the linker finds the static library alone, so that a program asks for no libcudart.so.
rm -f lib/libcudart.so*
ln -s libcudart_static.a lib/libcudart.a
ln -s lib lib64

# cudarc's build names these to the linker, yet with `dynamic-loading` no symbol of theirs is used: empty ones do.
mkdir lib/stubs
for stub in cuda:1 nvrtc:13 curand:10 cublas:13 cublasLt:13 cudnn:9; do
    name=lib${stub%:*}.so
    cc -shared -fPIC -nostdlib -x c /dev/null -Wl,-soname,"$name.${stub#*:}" -o "lib/stubs/$name"
done

# A stand-in for nvcc that leaves out candle's kernels for quantised and mixture-of-experts language models: most of the
# compile time and of the program's size, and nothing here calls them. Their functions abort if called.
mkdir lean
cat >lean/nvcc <<'NVCC'
#!/usr/bin/env bash
set -euo pipefail
output= before= source=
for argument in "$@"; do
    if [ "$before" = -o ]; then output=$argument; fi
    case $argument in *.cu) source=$argument ;; esac
    before=$argument
done
case $source in
    *moe_gguf.cu)
        # One object with every function that candle declares; from the declarations, whatever they are.
        { echo '#include <stdlib.h>'
          sed -n 's/^ *pub fn \([A-Za-z0-9_]*\)(.*/void \1(void) { abort(); }/p' "${source%/moe/*}/ffi.rs"
        } | cc -O1 -fPIC -c -x c - -o "$output" ;;
    */moe/*.cu | *mmvq_gguf.cu | */mmq_gguf/*.cu) cc -fPIC -c -x c /dev/null -o "$output" ;;
    *) exec "$(dirname "$(readlink -f "$0")")/../bin/nvcc" "$@" ;;
esac
NVCC
chmod +x lean/nvcc

# A stand-in that compiles nothing: for `cargo check`, which needs the names of the kernels and not the kernels.
mkdir check
cat >check/nvcc <<'NVCC'
#!/usr/bin/env bash
set -euo pipefail
output= before= folder=. source=
for argument in "$@"; do
    if [ "$before" = -o ]; then output=$argument; fi
    if [ "$before" = --output-directory ]; then folder=$argument; fi
    case $argument in *.cu) source=$argument ;; esac
    before=$argument
done
case " $* " in
    *" --ptx "*) : >"$folder/$(basename "$source" .cu).ptx" ;;
    *.cu\ * | *.cu) cc -fPIC -c -x c /dev/null -o "$output" ;;
    *) exec "$(dirname "$(readlink -f "$0")")/../bin/nvcc" "$@" ;;
esac
NVCC
chmod +x check/nvcc

toolkit=$root/toolkit
cat >"$new/env.sh" <<ENV
# To be sourced before cargo, see docs/gpu.md. LEAN=0: candle's kernels for language models too; LEAN=check: none at all.
export CUDA_HOME=$toolkit CUDA_PATH=$toolkit
export PATH=$toolkit/bin:\$PATH
case \${LEAN:-1} in
    0) export NVCC=$toolkit/bin/nvcc ;;
    check) export NVCC=$toolkit/check/nvcc ;;
    *) export NVCC=$toolkit/lean/nvcc ;;
esac
# Compute capability of the oldest card to serve, 80 for an A100, 90 for an H100 or H200: newer ones run it too.
export CUDA_COMPUTE_CAP=\${CUDA_COMPUTE_CAP:-90}
export CUDARC_CUDA_VERSION=13000
# Libraries are opened when first used and not linked, so that the same program runs where there are none. candle asks
# cudarc for linking; this reaches its code and, because the target is named, not its build script, which would refuse.
export CARGO_BUILD_TARGET=x86_64-unknown-linux-gnu
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS='--cfg feature="dynamic-loading"'
ENV
echo "$stamp" >"$new/stamp"
cd /
rm -rf "$root"
mv "$new" "$root"
trap - EXIT
"$toolkit/bin/nvcc" --version | tail -2 | head -1
echo "ready: . $root/env.sh"
