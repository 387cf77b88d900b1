#!/usr/bin/env bash
# Tries a graphics card in eight minutes: is it found, is it right, how fast is it, and where does the time go.
#
#   gpu.sh PACKAGE [FOLDER] [DEVICE]
#
# PACKAGE is what `make package` built: the archive, or the folder that it unpacks to. FOLDER (default: gpu-report) gets
# every result as soon as it is there, and summary.md, which says how each step ended. DEVICE (default: the first
# graphics card, else the first OpenCL device) is a name of `langevin devices`.
#
# Nothing else is needed but the card's driver. Where its .icd file is missing, one is made for NVIDIA's library; where
# the OpenCL loader is missing, LOADER may name Debian's package of it (ocl-icd-libopencl1_….deb). PYTHON (default:
# python3) times PyTorch's step on the same card where it has torch and diffusers. BUDGET is seconds in all (480).
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
package=${1:?usage: gpu.sh PACKAGE [FOLDER] [DEVICE]} out=${2:-gpu-report} device=${3:-}
budget=${BUDGET:-480} python=${PYTHON:-python3}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 1
if [ -f "$package" ]; then
  tar --extract --gzip --file "$package" --directory "$scratch" || exit 1
  package=$(echo "$scratch"/langevin-*)
fi
tool=$(cd "$package" && pwd)/langevin
[ -x "$tool" ] || { echo "gpu.sh: no langevin in $package" >&2; exit 1; }
# Caches of its own, so that nothing found here is due to an earlier run.
export XDG_CACHE_HOME=$scratch/cache
if [ -n "${LOADER:-}" ]; then
  dpkg -x "$LOADER" "$scratch/loader" || exit 1
  export LD_LIBRARY_PATH=$(dirname "$(find "$scratch/loader" -name libOpenCL.so.1)")${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi
if [ -z "${OCL_ICD_VENDORS:-}" ] && ! ls /etc/OpenCL/vendors/*.icd > /dev/null 2>&1; then
  nvidia=$(ldconfig -p | awk '$1 == "libnvidia-opencl.so.1" { print $NF; exit }')
  [ -n "$nvidia" ] || nvidia=$(find /usr/local/nvidia /usr/lib -name libnvidia-opencl.so.1 2> /dev/null | head -n 1)
  if [ -n "$nvidia" ]; then
    mkdir -p "$scratch/vendors" && echo "$nvidia" > "$scratch/vendors/nvidia.icd"
    export OCL_ICD_VENDORS=$scratch/vendors
    echo "no .icd file here; using $nvidia" | tee "$out/vendors.txt"
  fi
fi

{
  echo "# $(uname -sm), $("$tool" --version), $(date -u +%Y-%m-%dT%H:%MZ)"
  echo
  echo "| step | ended | seconds |"
  echo "|---|---|---|"
} > "$out/summary.md"
failed=0

# step NAME SECONDS COMMAND…: runs it with both streams in NAME.txt, for SECONDS at most and within the budget.
# An interrupt comes first, on which the tool writes what it has; 124 is a step that needed it.
step() {
  local name=$1 limit=$2 left=$((budget - SECONDS)) status start=$SECONDS
  shift 2
  if [ "$left" -lt 5 ]; then
    echo "| $name | not run: the budget is spent | |" >> "$out/summary.md"
    failed=1
    return 1
  fi
  [ "$limit" -le "$left" ] || limit=$left
  echo "== $name (at $SECONDS s)"
  timeout --signal INT --kill-after 10 "$limit" "$@" > "$out/$name.txt" 2>&1
  status=$?
  case $status in
    0) ended=well ;;
    124 | 130) ended="stopped after $limit s" ;;
    *) ended="**with $status**: $(grep -v '^$' "$out/$name.txt" | tail -n 1 | cut -c 1-160 | tr '|' '/')" failed=1 ;;
  esac
  echo "| $name | $ended | $((SECONDS - start)) |" >> "$out/summary.md"
  return "$status"
}

step devices 30 "$tool" devices
step doctor 30 "$tool" doctor
if [ -z "$device" ]; then
  device=$(awk '/^opencl:[0-9]+:/ { name = $1; sub(/:$/, "", name); if (first == "") first = name }
    /type gpu/ && card == "" { card = name } END { print card != "" ? card : first }' "$out/devices.txt")
fi
if [ -z "$device" ]; then
  echo "gpu.sh: no OpenCL device; $out/doctor.txt says why" >&2
  exit 1
fi
echo "$device" > "$out/device.txt"

step validate-tiny 60 "$tool" validate --device "$device" --shapes tiny --json "$out/validate-tiny.json"
step validate-edge 90 "$tool" validate --device "$device" --shapes edge --json "$out/validate-edge.json"
step picture 60 "$tool" generate "grinning face" --device "$device" --no-fallback --seed 1 \
  --output "$out/picture.png" --json
step step-shipped 75 "$tool" bench --devices "$device" --suite step --model sd15-random --rounds 3 \
  --json "$out/step-shipped.json"
if "$python" -c 'import diffusers, torch, sys; sys.exit(not torch.cuda.is_available())' 2> /dev/null; then
  step torch 60 "$python" "$here/peers.py" --step --torch-device cuda
else
  echo "| torch | not run: $python has no diffusers and torch that see the card | |" >> "$out/summary.md"
fi
step tune 75 "$tool" tune --device "$device" --model sd15-random --budget 60 --json "$out/tune.json"
step step-tuned 45 "$tool" bench --devices "$device" --suite step --model sd15-random --rounds 3 \
  --json "$out/step-tuned.json"
step ops 60 "$tool" bench --devices "$device" --suite ops --model "SD 1.5 UNet" --rounds 3 --json "$out/ops.json"
step profile 45 "$tool" profile "grinning face" --device "$device" --seed 1 --json "$out/profile.json" \
  --trace "$out/trace.json" --roofline "$out/roofline.svg"
step report 90 "$tool" report --quick --device "$device" --output "$out/REPORT.md"

cat "$out/summary.md"
echo "$SECONDS s in all; everything is in $out"
exit "$failed"
