#!/usr/bin/env bash
# Lays a built tool, its resources and the libraries that a bare machine may lack into one archive.
# Usage: archive.sh FOLDER-OF-THE-BUILT-TOOL FOLDER-OF-THE-PACKAGES-SOURCES FOLDER-FOR-THE-ARCHIVE
set -euo pipefail
built=$1 sources=$2 output=$3

version=$("$built/langevin" --version)
name=langevin-$version-linux-$(uname -m)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir -p "$stage/$name/lib/licences" "$output"

cp "$built/langevin" "$stage/$name/"
cp -r "$built/langevin_Langevin.resources" "$stage/$name/"
cp LICENSE "$stage/$name/"
cp Packaging/README.txt "$stage/$name/README.txt"

# The tool finds these by its run path, $ORIGIN/lib. The C library, zlib, libstdc++ and libgcc are everywhere.
for library in libspng.so.0 libturbojpeg.so.0 libwebp.so.7 libwebpmux.so.3 libopenblas.so.0 libgfortran.so.5 libquadmath.so.0; do
  path=$(ldconfig -p | awk -v name="$library" '$1 == name && /x86-64/ { print $NF; exit }')
  [ -n "$path" ] || { echo "$library is not installed" >&2; exit 1; }
  cp -L "$path" "$stage/$name/lib/$library"
  package=$(dpkg -S "$(realpath "$path")" | cut -d: -f1)
  cp "/usr/share/doc/$package/copyright" "$stage/$name/lib/licences/$package"
done

# Of the Swift packages, those with a module among what was linked, and Swift's own runtime.
linked=$(sed -nE 's|.*/([^/]+)\.build/.*|\1|p' "$built/langevin.product/Objects.LinkFileList" | sort -u)
[ -n "$linked" ] || { echo "$built does not say what was linked" >&2; exit 1; }
for package in "$sources"/*/; do
  name_of_package=$(basename "$package")
  # Its targets, by their folders and by their names.
  modules=$(find "$package/Sources" -maxdepth 2 -mindepth 1 -type d -printf '%f\n'
    grep -Pzo 'arget\(\s*name:\s*"\K\w+' "$package/Package.swift" | tr '\0' '\n' || true)
  grep -qFxf <(echo "$linked") <<< "$modules" || continue
  licence=$(find "$package" -maxdepth 1 -iname 'licen[cs]e*' | head -1)
  [ -n "$licence" ] || { echo "$name_of_package has no licence" >&2; exit 1; }
  # Apache's licence asks for the notices too.
  cat "$licence" $(find "$package" -maxdepth 1 -iname 'notice*') > "$stage/$name/lib/licences/$name_of_package"
done
swift_licence=$(dirname "$(realpath "$(command -v swiftc)")")/../share/swift/LICENSE.txt
cp "$swift_licence" "$stage/$name/lib/licences/swift"

# What is left to find must be on every machine.
foreign=$(ldd "$stage/$name/langevin" | awk '{ print $1 }' |
  grep -vE '^(linux-vdso|/lib64/ld-linux|lib(c|m|dl|pthread|rt|util|resolv|z|stdc\+\+|gcc_s|spng|turbojpeg|webp|webpmux)\.so)' || true)
[ -z "$foreign" ] || { echo "the tool needs" $foreign >&2; exit 1; }

tar --create --gzip --sort=name --owner=0 --group=0 --numeric-owner --directory "$stage" \
  --file "$output/$name.tar.gz" "$name"
ls -l "$output/$name.tar.gz"
