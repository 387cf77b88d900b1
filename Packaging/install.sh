#!/usr/bin/env bash
# Puts a built tool, its resources, completions and manual in place, or takes them away.
# Usage: install.sh BUILT-FOLDER MANUAL-GENERATOR PREFIX [DESTDIR], or install.sh --remove PREFIX [DESTDIR]
set -euo pipefail

fail() { echo "install.sh: $*" >&2; exit 1; }

if [ "${1:-}" = --remove ]; then
  [ $# -ge 2 ] || fail "which prefix?"
  prefix=$2 root=${3:-}$2
else
  [ $# -ge 3 ] || fail "usage: install.sh BUILT-FOLDER MANUAL-GENERATOR PREFIX [DESTDIR]"
  built=$1 generator=$2 prefix=$3 root=${4:-}$3
fi
[[ "$prefix" = /* ]] || fail "PREFIX must begin with /, got '$prefix'"

bash=$root/share/bash-completion/completions/langevin
zsh=$root/share/zsh/site-functions/_langevin
fish=$root/share/fish/vendor_completions.d/langevin.fish
manual=$root/share/man/man1/langevin.1

# Asks for rights only where they are missing.
existing=$root
while [ ! -e "$existing" ]; do existing=$(dirname "$existing"); done
sudo=
if [ ! -w "$existing" ] && [ "$(id -u)" != 0 ]; then
  command -v sudo > /dev/null || fail "$existing cannot be written; run it as root, or say PREFIX=~/.local"
  sudo=sudo
fi

if [ "$1" = --remove ]; then
  $sudo rm -rf "$root/lib/langevin"
  $sudo rm -f "$root/bin/langevin" "$bash" "$zsh" "$fish" "$manual"
  echo "removed langevin from $root"
  exit
fi

# Everything is made before anything is put in place.
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
"$built/langevin" --generate-completion-script bash > "$stage/bash"
"$built/langevin" --generate-completion-script zsh > "$stage/zsh"
"$built/langevin" --generate-completion-script fish > "$stage/fish"
"$generator" "$built/langevin" --output-directory "$stage"
# The generator also describes commands that --help does not show, and leaves empty lines, which mdoc does not have.
"$built/langevin" --help | awk '
  NR == FNR { if (/^  [a-z]/) shown[$1]; next }
  /^\.It Em / { skip = !($3 in shown) }
  !skip { print $0 == "" ? ".Pp" : $0 }
  /^\.El/ { skip = 0 }' - "$stage/langevin.1" > "$stage/manual"

# The tool finds its resources beside itself, also through the link.
$sudo rm -rf "$root/lib/langevin"
$sudo install -d "$root/lib/langevin" "$root/bin"
$sudo install -m 755 "$built/langevin" "$root/lib/langevin/"
$sudo cp -r "$built/langevin_Langevin.resources" "$root/lib/langevin/"
$sudo ln -sf ../lib/langevin/langevin "$root/bin/langevin"
$sudo install -D -m 644 "$stage/bash" "$bash"
$sudo install -D -m 644 "$stage/zsh" "$zsh"
$sudo install -D -m 644 "$stage/fish" "$fish"
$sudo install -D -m 644 "$stage/manual" "$manual"
echo "installed $root/bin/langevin, its manual, and completions for bash, zsh and fish"
case ":$PATH:" in
  *":$prefix/bin:"*) ;;
  *) echo "$prefix/bin is not on your PATH; add: export PATH=\"$prefix/bin:\$PATH\"" ;;
esac
