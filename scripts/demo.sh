#!/bin/sh
# The whole way of a release, on this machine: keys, build, server, publish, check, plan, apply, boot, fall back, refuse.
# Needs npm; as root it installs the Debian packages that are missing. Cleans up after itself.
set -eu
cd "$(dirname "$0")/.."

case ${1-} in
  '') ;;
  --help | -h)
    cat <<'HELP'
Usage: demo.sh

Shows the main job of Quantix Update on real input, without configuration. As root: a disk image with slots on loop devices,
whole systems under OpenRC, the real GRUB. Without root: the same on plain files in a folder, and it says what it replaced.

QX_DEMO_KEEP=1 demo.sh    keeps the folder that it worked in
HELP
    exit 0
    ;;
  *)
    echo "demo.sh: unknown argument $1 (try --help)" >&2
    exit 2
    ;;
esac

# shellcheck source=scripts/packages.sh
. scripts/packages.sh
install_packages "$debian_packages"
install_node_modules
# The tools for file systems are not on everybody's PATH.
PATH=$PWD/node_modules/.bin:$PATH:/usr/sbin:/sbin exec node scripts/demo.ts
