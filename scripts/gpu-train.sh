#!/usr/bin/env bash
# One lease of training on a machine that is given back: takes up what an earlier lease left, trains until time is up, and leaves
# everything in pieces of at most 16 MB.
#
#   scripts/gpu-train.sh ARCHIVE CONFIG DATA SECONDS RESULT [BEFORE]
#
# ARCHIVE   of scripts/gpu-pack.sh, with the program
# CONFIG    a run's TOML, such as assets/configs/afhq-cat-128.toml; `precision = "bf16"` in it is for this
# DATA      a folder of pictures, or a tar of one
# RESULT    gets model.tar.* (averaged weights in f16, and sixteen samples) once both networks have begun, and run.tar.* (the
#           checkpoints; not with WMGM_SLIM=1, they are eight times as large)
# BEFORE    RESULT of an earlier lease: its run goes on to the bit, or, where there is only a model, new moments start from
#           it: `warmup` in the configuration is then of use, and another `seed`
set -euo pipefail
[ $# -ge 5 ] || { sed -n '2,16s/^# \{0,1\}//p' "$0" >&2; exit 2; }
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
archive=$1 config=$2 data=$3 seconds=$4 result=$5 before=${6:-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$result" "$work/run" "$work/pictures"
"${WMGM_PYTHON:-python3}" -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extract("./wmgm", sys.argv[2], filter="data")' "$archive" "$work"
device=${WMGM_DEVICE:-cuda}
libraries=("$repository/scripts/gpu-libraries.sh")
# For a try without a GPU.
if [ "$device" = cpu ]; then libraries=(); fi
wmgm() { "${libraries[@]}" "$work/wmgm" "$@"; }
if [ -f "$data" ]; then
    tar -xf "$data" -C "$work/pictures"
    data=$work/pictures
fi

how=()
if compgen -G "$before/run.tar.*" >/dev/null; then
    cat "$before"/run.tar.* | tar -xf - -C "$work/run"
    how=(--resume)
elif compgen -G "$before/model.tar.*" >/dev/null; then
    cat "$before"/model.tar.* | tar -xf - -C "$work"
    how=(--init "$work/model")
elif [ -n "$before" ]; then
    echo "error: $before has neither run.tar.* nor model.tar.*" >&2
    exit 2
fi

# A signal saves and stops with 130.
status=0
"${libraries[@]}" timeout -s TERM "$seconds" "$work/wmgm" train "$config" --data "$data" --out "$work/run" \
    --device "$device" "${how[@]}" || status=$?
case $status in 0 | 124 | 130) ;; *) exit "$status" ;; esac

pieces() { split -b 16000000 - "$result/$1.tar."; }
rm -f "$result"/model.tar.* "$result"/run.tar.*
if [ -f "$work/run/low.checkpoint.safetensors" ] && [ -f "$work/run/high.checkpoint.safetensors" ]; then
    rm -rf "$work/model"
    wmgm bundle "$work/run" --out "$work/model"
    wmgm sample --model "$work/model" --device "$device" --out "$work/samples.png"
    tar -C "$work" -cf - model samples.png | pieces model
fi
if [ "${WMGM_SLIM:-0}" != 1 ]; then
    rm -rf "$work/run/bundle"
    tar -C "$work/run" -cf - . | pieces run
fi
ls -l "$result"
