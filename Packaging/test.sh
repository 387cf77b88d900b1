#!/usr/bin/env bash
# Unpacks an archive into a Debian that has an OpenCL loader and PoCL and nothing else, and makes pictures there.
# Needs root, debootstrap and the network. Usage: test.sh ARCHIVE FOLDER-FOR-THE-PICTURES
set -euo pipefail
archive=$1 pictures=$2
[ "$(id -u)" = 0 ] || { echo "test.sh: chroot and mount need root" >&2; exit 1; }

root=$(mktemp -d)
leave() {
  for folder in dev sys proc; do
    if mountpoint --quiet "$root/$folder"; then umount --recursive "$root/$folder"; fi
  done
  rm -rf --one-file-system "$root"
}
trap leave EXIT

suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
debootstrap --variant=minbase --include=ocl-icd-libopencl1,pocl-opencl-icd "$suite" "$root" > "$root.log" ||
  { tail -20 "$root.log" >&2; exit 1; }
rm -f "$root.log"
# PoCL aborts without /sys.
for folder in proc sys dev; do mount --rbind --make-rslave "/$folder" "$root/$folder"; done
tar --extract --file "$archive" --directory "$root/opt"
folder=/opt/$(basename "$archive" .tar.gz)

inside() { chroot "$root" /usr/bin/env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root "$@"; }
fail() { echo "test.sh: $*" >&2; exit 1; }
generate() { inside "$folder/langevin" generate "grinning face" --seed 1 --quiet "$@"; }

# Nothing of the toolchain may be there to help.
for absent in swift clang; do ! inside which "$absent" || fail "$absent is in the root"; done
! inside sh -c 'ls /usr/lib/*/libopenblas* /usr/lib/*/libspng* /usr/lib/*/libswift*' 2> /dev/null ||
  fail "a library that the archive carries is in the root"

for package in hummingbird swift-nio swift-argument-parser swift libspng0; do
  [ -s "$root$folder/lib/licences/$package" ] || fail "the licence of $package is missing"
done

inside "$folder/langevin" doctor
devices=$(inside "$folder/langevin" devices)
grep -q "^opencl:0: " <<< "$devices" || fail "there is no device: $devices"
generate --device opencl:0 --output /root/opencl.png
generate --device cpu --output /root/cpu.png
# Called through a link, from another folder.
inside ln -s "$folder/langevin" /usr/local/bin/langevin
inside sh -c 'cd /tmp && langevin generate x --steps 1 --quiet --output linked.png'

# Without a loader the tool starts, says so, and computes on the processor.
mkdir "$root/hidden"
mv "$root"/usr/lib/*/libOpenCL.so* "$root/hidden/"
if report=$(inside "$folder/langevin" doctor); then fail "doctor finds nothing wrong without a loader"; fi
grep -q "apt install ocl-icd-libopencl1" <<< "$report" || fail "doctor does not name the loader: $report"
generate --output /root/without.png 2> /dev/null
cmp "$root/root/cpu.png" "$root/root/without.png" || fail "auto without a loader is not the CPU backend's picture"

mkdir -p "$pictures"
cp "$root"/root/{opencl,cpu}.png "$pictures/"
echo "the package works; pictures are in $pictures"
