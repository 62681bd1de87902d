#!/bin/sh
# Writes manifest.json for the archives in a folder, so that whoever holds the key can sign it elsewhere.
set -eu

usage() {
  cat <<'HELP'
Usage: generate-manifest.sh --version V [options] [DIR]

Describes every NAME.tar.zst in DIR (default: build/release) whose NAME is a component that Quantix knows, and
system.squashfs when it is there, in DIR/manifest.json. It signs and publishes nothing.

  --channel NAME      dev, beta or stable (default: dev)
  --component NAME    only this component; may be given again
  --version V         version of the release
  --product NAME      quantix-os (default) or quantix-vdc
  --image FILE        full system image
  --image-layout KIND of the slots it is for: raw (default) or filesystem
  --expires-in TIME   no new install later than this after the release date, such as 90d
  --dry-run           print the manifest instead of writing it
  --server URL        taken and ignored, as --token TOKEN is: publish-update.sh has the same options
  --help              print this

Examples:
  generate-manifest.sh --version 1.2.0
  generate-manifest.sh --version 1.2.0 --channel beta --component qx-node --dry-run build/release
HELP
}

project=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
# shellcheck source=scripts/release-functions.sh
. "$project/scripts/release-functions.sh"

channel=dev components='' version='' product=quantix-os image='' image_layout=raw expires_in='' dry_run=no dir=''

while [ $# -gt 0 ]; do
  case $1 in
    --help | -h) usage && exit 0 ;;
    --dry-run) dry_run=yes && shift && continue ;;
    --channel | --component | --version | --product | --image | --image-layout | --expires-in | --server | --token) ;;
    -*) die "unknown option $1 (try --help)" 2 ;;
    *) { [ -z "$dir" ] || die 'one folder at a time' 2; } && dir=$1 && shift && continue ;;
  esac
  [ -n "${2-}" ] || die "$1 needs a value (try --help)" 2
  case $1 in
    --channel) channel=$2 ;;
    --component) components="$components $(plain_name "$2")" ;;
    --version) version=$2 ;;
    --product) product=$2 ;;
    --image) image=$2 ;;
    --image-layout) image_layout=$2 ;;
    --expires-in) expires_in=$2 ;;
  esac
  shift 2
done

: "${dir:=$project/build/release}"
[ -n "$version" ] || die 'which version? give --version V' 2
[ -d "$dir" ] || die "there is no folder $dir"
: "${components:=$(known_components "$product")}"
[ -n "$image" ] || [ ! -f "$dir/system.squashfs" ] || image=$dir/system.squashfs

set -- manifest --product "$product" --version "$version" --channel "$channel"
for name in $components; do
  [ ! -f "$dir/$name.tar.zst" ] || set -- "$@" --component "$name=$dir/$name.tar.zst"
done
[ -z "$image" ] || set -- "$@" --image "$image" --image-layout "$image_layout"
[ -z "$expires_in" ] || set -- "$@" --expires-in "$expires_in"
[ "$dry_run" = yes ] || set -- "$@" --out "$dir/manifest.json"
qx_release "$@"
