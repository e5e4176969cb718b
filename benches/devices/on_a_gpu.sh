#!/bin/sh
# Measures devices on a machine that has a GPU and neither Rust nor a network. It needs this file, the
# built bench (`cargo bench --bench devices --no-run` says where it is) and a libtorch 2.11 for CUDA:
#
#   on_a_gpu.sh BENCH LIBTORCH [OPTIONS OF THE BENCH]
#
# for example `on_a_gpu.sh ./devices /opt/libtorch --quick`. LIBTORCH is the folder that has `lib`, such
# as that of Python's `torch`. Prints tables; with MPS=1 in the environment the co-located students are
# measured once more under NVIDIA's Multi-Process Service, which is started and ended here, for this
# user's processes only. There a fatal fault of one process is one of all. DEVICE=cpu tries the script
# itself out where there is no GPU.
set -eu

if [ $# -lt 2 ]; then
    echo "usage: $0 BENCH LIBTORCH [OPTIONS OF THE BENCH]" >&2
    exit 2
fi
bench=$1
libtorch=$2
shift 2
device=${DEVICE:-cuda}
[ -x "$bench" ] || { echo "$bench: no program" >&2; exit 2; }
[ -e "$libtorch/lib/libtorch_cpu.so" ] || { echo "$libtorch: no lib/libtorch_cpu.so in it" >&2; exit 2; }
export LD_LIBRARY_PATH="$libtorch/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"

if command -v nvidia-smi >/dev/null; then
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
fi
echo "== students on $device"
"$bench" --bench --device "$device" --table "$@"

if [ "${MPS:-0}" = 1 ]; then
    command -v nvidia-cuda-mps-control >/dev/null || { echo "no nvidia-cuda-mps-control" >&2; exit 2; }
    CUDA_MPS_PIPE_DIRECTORY=$(mktemp -d)
    CUDA_MPS_LOG_DIRECTORY=$CUDA_MPS_PIPE_DIRECTORY
    export CUDA_MPS_PIPE_DIRECTORY CUDA_MPS_LOG_DIRECTORY
    nvidia-cuda-mps-control -d
    trap 'echo quit | nvidia-cuda-mps-control; rm -rf "$CUDA_MPS_PIPE_DIRECTORY"' EXIT
    echo "== co-located students under MPS"
    "$bench" --bench --device "$device" --table --only colocated "$@"
fi
