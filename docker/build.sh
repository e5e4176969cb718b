#!/bin/sh
# Builds `ekya` and puts what it needs to run into a folder: docker/build.sh cpu|cuda FOLDER
# The build stage of docker/Dockerfile; it also works outside of it.
set -eu
variant=$1
folder=$2
mkdir -p "$folder/bin" "$folder/lib"

case $variant in
cpu) ;;
cuda)
    python3 -m venv /tmp/python
    /tmp/python/bin/pip install --no-cache-dir torch==2.11.0
    PATH=/tmp/python/bin:$PATH
    export PATH LIBTORCH_USE_PYTORCH=1
    ;;
*)
    echo "$variant: expected cpu or cuda" >&2
    exit 2
    ;;
esac
cargo xtask setup
cargo build --release --locked --bin ekya

cp "${CARGO_TARGET_DIR:-target}/release/ekya" "$folder/bin/ekya"
strip "$folder/bin/ekya"
cp "${EKYA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ekya}"/ffmpeg-*/ffmpeg "$folder/bin/ffmpeg"
if [ "$variant" = cuda ]; then
    packages=$(python3 -c 'import site; print(site.getsitepackages()[0])')
    # Laid out as there: the libraries find each other by their relative places.
    mkdir "$folder/lib/torch"
    cp -a "$packages/torch/lib" "$folder/lib/torch/lib"
    cp -a "$packages/nvidia" "$folder/lib/nvidia"
else
    cp -L .libtorch/lib/*.so* "$folder/lib/"
fi
