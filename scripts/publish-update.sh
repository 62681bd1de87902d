#!/bin/sh
# Builds, packs, describes, signs and publishes a release: what a developer runs to see a change on a host.
set -eu

usage() {
  cat <<'HELP'
Usage: publish-update.sh [options]

Without options it builds and publishes all components (qx-node, qx-console, host-ui) to channel dev.

  --channel NAME      dev, beta or stable (default: dev)
  --product NAME      quantix-os (default) or quantix-vdc
  --component NAME    only this component; may be given again. NAME=PATH packs that file or folder: needed for guest-agent
                      and for the components of quantix-vdc (controlplane, dashboard, migrations), which are not built here
  --version V         version of the release; on dev and beta by default the patch version after this checkout's with the
                      time, such as 0.1.1-dev.20261101120000, which is newer each time
  --image FILE        also publish this full system image
  --image-layout KIND of the slots it is for: raw (default) or filesystem
  --expires-in TIME   no new install later than this, such as 90d
  --release-notes T   what is new
  --key FILE          private key to sign with (default: $QX_SIGNING_KEY)
  --keyring FILE      its public half, built into the executable (default: $QX_KEYRING)
  --executable FILE   qx-node to publish instead of building one
  --out DIR           where the release is put together (default: build/release); its old content is removed
  --server URL        update server (default: $QX_SERVER, else http://127.0.0.1:9000)
  --token TOKEN       publish token; better given as $QX_TOKEN or $PUBLISH_TOKEN, which nobody else can see
  --dry-run           do everything but send it; without a key it is not signed either
  --help              print this

Examples (with QX_SIGNING_KEY, QX_KEYRING and QX_TOKEN in the environment):
  publish-update.sh
  publish-update.sh --channel beta --component qx-node
  publish-update.sh --dry-run
  publish-update.sh --product quantix-vdc --version 2.0.0 --component controlplane=build/controlplane
HELP
}

project=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
# shellcheck source=scripts/release-functions.sh
. "$project/scripts/release-functions.sh"

channel=dev product=quantix-os components='' version='' image='' image_layout=raw expires_in='' notes=''
executable='' out='' server='' dry_run=no
key=${QX_SIGNING_KEY-} keyring=${QX_KEYRING-}

while [ $# -gt 0 ]; do
  case $1 in
    --help | -h) usage && exit 0 ;;
    --dry-run) dry_run=yes && shift && continue ;;
    --channel | --product | --component | --version | --image | --image-layout | --expires-in | --release-notes) ;;
    --key | --keyring | --executable | --out | --server | --token) ;;
    *) die "unknown option $1 (try --help)" 2 ;;
  esac
  [ -n "${2-}" ] || die "$1 needs a value (try --help)" 2
  case $1 in
    --channel) channel=$2 ;;
    --product) product=$2 ;;
    --component) components="$components $(component_given "$2")" ;;
    --version) version=$2 ;;
    --image) image=$2 ;;
    --image-layout) image_layout=$2 ;;
    --expires-in) expires_in=$2 ;;
    --release-notes) notes=$2 ;;
    --key) key=$2 ;;
    --keyring) keyring=$2 ;;
    --executable) executable=$2 ;;
    --out) out=$2 ;;
    --server) server=$2 ;;
    # From here on in the environment: the arguments of the programs below are open to everybody on this machine.
    --token) QX_TOKEN=$2 && export QX_TOKEN ;;
  esac
  shift 2
done

: "${out:=$project/build/release}"
case $channel in dev | beta | stable) ;; *) die "there is no channel $channel" 2 ;; esac
known=$(known_components "$product") || exit 2
if [ -z "$components" ]; then
  [ "$product" = quantix-os ] || die "which components of $product? give --component NAME=PATH, NAME being one of: $known" 2
  components='qx-node qx-console host-ui'
fi
for given in $components; do
  name=${given%%=*}
  case " $known " in *" $name "*) ;; *) die "$product has no component $name, only: $known" 2 ;; esac
  case $given in
    *=*) [ -e "${given#*=}" ] || die "there is no file or folder ${given#*=}" ;;
    qx-node | qx-console | host-ui) ;;
    *) die "$name is not built here: give --component $name=PATH" 2 ;;
  esac
done
# Only what is shown and not sent may be without a signature.
if [ "$dry_run" = no ] || [ -n "$key" ]; then
  [ -n "$key" ] || die 'who signs? give --key FILE, or QX_SIGNING_KEY (qx-release keygen makes one)' 2
  [ -n "$keyring" ] || die 'which keys do hosts trust? give --keyring FILE, or QX_KEYRING' 2
  [ -f "$key" ] || die "there is no key $key"
fi
[ -z "$keyring" ] || [ -f "$keyring" ] || die "there is no keyring $keyring"
[ -z "$image" ] || [ -f "$image" ] || die "there is no image $image"

# made_up_version CHANNEL: later than what install-host.sh of this checkout installs.
made_up_version() {
  sed -n 's/^  "version": "\([0-9]*\)\.\([0-9]*\)\.\([0-9]*\)".*/\1 \2 \3/p' "$project/package.json" | {
    read -r major minor patch
    printf '%s.%s.%s-%s.%s\n' "$major" "$minor" "$((patch + 1))" "$1" "$(date -u +%Y%m%d%H%M%S)"
  }
}

if [ -z "$version" ]; then
  [ "$channel" != stable ] || die 'which version? only dev and beta make one up; give --version V for stable' 2
  version=$(made_up_version "$channel")
  printf 'version %s; a host with a later one refuses it, then give --version\n' "$version" >&2
fi

# A host needs the executable that finds its own C library (dist/host); one that was named is taken as it is.
build_executable() {
  (cd "$project" && npm run --silent build -- --host ${1:+--keyring "$1"}) >&2
  executable=$project/dist/host/bin/qx-node
}

absolute() { printf '%s/%s\n' "$(CDPATH='' cd -- "$(dirname -- "$1")" && pwd)" "$(basename -- "$1")"; }

# source_of NAME | NAME=PATH
source_of() {
  case $1 in
    *=*) printf '%s\n' "${1#*=}" ;;
    qx-node) printf '%s\n' "$executable" ;;
    qx-console) printf '%s\n' "$project/openrc/qx-console" ;;
    host-ui) printf '%s\n' "$project/src/ui/host" ;;
  esac
}

case " $components " in *' qx-node '*) [ -n "$executable" ] || build_executable "${keyring:+$(absolute "$keyring")}" ;; esac

# Only what this script itself puts there: a folder named by mistake must not lose anything else.
mkdir -p "$out"
rm -f "$out"/*.tar.zst "$out/manifest.json" "$out/manifest.signed.json"

set -- manifest --product "$product" --version "$version" --channel "$channel" --out "$out/manifest.json"
for given in $components; do
  name=${given%%=*}
  qx_release pack "$(source_of "$given")" --name "$name" --out "$out"
  set -- "$@" --component "$name=$out/$name.tar.zst"
done
[ -z "$image" ] || set -- "$@" --image "$image" --image-layout "$image_layout"
[ -z "$expires_in" ] || set -- "$@" --expires-in "$expires_in"
[ -z "$notes" ] || set -- "$@" --release-notes "$notes"
qx_release "$@"
if [ -z "$key" ]; then
  printf 'nothing was signed and nothing was sent: give --key and --keyring to sign %s\n' "$out/manifest.json"
  exit 0
fi
qx_release sign "$out/manifest.json" --key "$key" --keyring "$keyring"

set -- publish "$out/manifest.signed.json" --keyring "$keyring" --channel "$channel" --version "$version"
for given in $components; do set -- "$@" "$out/${given%%=*}.tar.zst"; done
[ -z "$image" ] || set -- "$@" "$image"
[ -z "$server" ] || set -- "$@" --server "$server"
[ "$dry_run" = no ] || set -- "$@" --dry-run
qx_release "$@"
