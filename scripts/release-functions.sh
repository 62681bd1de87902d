# shellcheck shell=sh
# What publish-update.sh and generate-manifest.sh share. Sourced; expects $project, the top of the repository.
: "${project:?}"

die() {
  printf '%s: %s\n' "${0##*/}" "$1" >&2
  exit "${2:-1}"
}

# From source, with the Node that the project pins: what lies in dist may be older than the script that calls it.
qx_release() {
  [ -x "$project/node_modules/.bin/node" ] || die 'the project is not installed: run npm ci first'
  "$project/node_modules/.bin/node" "$project/src/main.ts" qx-release "$@"
}

known_components() {
  case $1 in
    quantix-os) echo qx-node qx-console host-ui guest-agent ;;
    quantix-vdc) echo controlplane dashboard migrations ;;
    *) die "there is no product $1" 2 ;;
  esac
}

# component_given NAME | NAME=PATH. The words of a list: a path with white space would be two of them.
component_given() {
  plain_name "${1%%=*}" >/dev/null || exit
  case $1 in *[[:space:]]*) die "$1 has white space in it" 2 ;; esac
  printf '%s\n' "$1"
}

# Names become words of a list and parts of paths.
plain_name() {
  case $1 in '' | *[!a-z0-9._-]* | [!a-z0-9]*) die "$1 is no name of a component" 2 ;; esac
  printf '%s\n' "$1"
}
