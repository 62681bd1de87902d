#!/bin/sh
# Puts the Quantix host agent, its boot scripts and its boot files into a host's root folder. Run it when an image is built,
# on a host itself, or on any folder for a demo or a test; run again, it renews its own programs and keeps what an operator
# changed.
set -eu
umask 022

usage() {
  cat <<'HELP'
Usage: install-host.sh --root DIR [options]

  --root DIR          root folder of the host; / for this machine
  --executable FILE   qx-node to install (default: dist/host/bin/qx-node, else dist/qx-node; made by `npm run build`)
  --rt DIR            loader and libraries of the executable (default: dist/host/rt with the default executable)
  --version V         version of the image (default: what DIR/etc/quantix-version says, else that of this checkout)
  --boot-dir DIR      grub folder of the boot partition (default: ROOT/boot/grub)
  --slot-a DEVICE     GRUB's name of slot A, such as hd0,gpt2; with --slot-b, writes quantix-layout.cfg if there is none
  --slot-b DEVICE     GRUB's name of slot B
  --no-console        do not enable the status screen on the machine's terminal (service quantix-console, /dev/tty1)
  --help              print this

A file of /etc or of the boot folder that an operator changed is kept, and the new one is put beside it as FILE.quantix-new.
A service that was enabled once and then removed from its runlevel stays removed. The GRUB environment is made once and
never touched again: from then on it belongs to GRUB and the agent.

Examples:
  install-host.sh --root /mnt/image --version 1.2.0
  install-host.sh --root "$PWD/demo-host" --version 1.0.0 --executable dist/qx-node --slot-a hd0,gpt2 --slot-b hd0,gpt3
  sudo install-host.sh --root /
HELP
}

die() {
  printf 'install-host.sh: %s\n' "$1" >&2
  exit "${2:-1}"
}
say() { printf '%s\n' "$1"; }

project=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
root='' executable='' rt='' version='' boot_dir='' slot_a='' slot_b='' console=yes

while [ $# -gt 0 ]; do
  case $1 in
    --help | -h) usage && exit 0 ;;
    --no-console) console=no && shift && continue ;;
    --root | --executable | --rt | --version | --boot-dir | --slot-a | --slot-b) ;;
    *) die "unknown option $1 (try --help)" 2 ;;
  esac
  [ -n "${2-}" ] || die "$1 needs a value (try --help)" 2
  case $1 in
    --root) root=$2 ;;
    --executable) executable=$2 ;;
    --rt) rt=$2 ;;
    --version) version=$2 ;;
    --boot-dir) boot_dir=$2 ;;
    --slot-a) slot_a=$2 ;;
    --slot-b) slot_b=$2 ;;
  esac
  shift 2
done

[ -n "$root" ] || die 'which host? give --root DIR (try --help)' 2
if ! mkdir -p "$root" 2>/dev/null || [ ! -w "$root" ]; then
  die "cannot write to $root (not a folder, read-only, or another user's)"
fi
root=$(CDPATH='' cd -- "$root" && pwd)
root=${root%/}
: "${boot_dir:=$root/boot/grub}"

# shellcheck source=openrc/quantix-functions.sh
. "$project/openrc/quantix-functions.sh"

if [ -z "$executable" ]; then
  if [ -f "$project/dist/host/bin/qx-node" ]; then
    executable=$project/dist/host/bin/qx-node
    : "${rt:=$project/dist/host/rt}"
  else
    executable=$project/dist/qx-node
  fi
fi
[ -f "$executable" ] || die "no executable $executable: run \`npm run build\`, or name one with --executable"
qx_usable "$executable" || die "$executable is not an executable program"
[ -z "$rt" ] || [ -d "$rt" ] || die "--rt $rt is not a folder"
[ -z "$slot_a$slot_b" ] || { [ -n "$slot_a" ] && [ -n "$slot_b" ]; } || die '--slot-a and --slot-b go together' 2
for device in "$slot_a" "$slot_b"; do
  case $device in *[!A-Za-z0-9,._-]*) die "$device is not a GRUB device such as hd0,gpt2" 2 ;; esac
done

version_file=$root/etc/quantix-version
if [ -z "$version" ]; then
  version=$(qx_version_in "$version_file") || version=$(sed -n 's/^  "version": "\(.*\)",$/\1/p' "$project/package.json")
fi
qx_is_version "$version" || die "$version is not a version such as 1.2.0 or 1.2.0-rc1" 2

# What was installed, by hash: that is how a later run knows an operator's change from an older version of ours.
record=$root/usr/share/quantix/installed

hash_of() { sha256sum "$1" | cut -d' ' -f1; }
recorded() { grep -qFx -e "$1" "$record" 2>/dev/null; }
remember() { recorded "$1" || printf '%s\n' "$1" >>"$record"; }

# put SOURCE TARGET MODE: the target is replaced by rename, for it may be running.
put() {
  cmp -s "$1" "$2" || {
    mkdir -p "${2%/*}"
    cp "$1" "$2.qx-new"
    chmod "$3" "$2.qx-new"
    mv -f "$2.qx-new" "$2"
    say "installed $2"
  }
  chmod "$3" "$2"
}

# put_editable SOURCE TARGET MODE NAME
put_editable() {
  if [ -e "$2" ] && ! cmp -s "$1" "$2" && ! recorded "$(hash_of "$2")  $4"; then
    # A file that an operator keeps is told about once for each new version of ours.
    cmp -s "$1" "$2.quantix-new" || say "kept $2, which was changed; the new one is $2.quantix-new"
    cp "$1" "$2.quantix-new"
    return
  fi
  put "$1" "$2" "$3"
  remember "$(hash_of "$2")  $4"
}

# put_once TARGET MODE: standard input becomes the target unless there is one.
put_once() {
  if [ -e "$1" ]; then
    cat >/dev/null
    return
  fi
  mkdir -p "${1%/*}"
  cat >"$1.qx-new"
  chmod "$2" "$1.qx-new"
  mv -f "$1.qx-new" "$1"
  say "made $1"
}

# link TARGET LINK
link() {
  [ "$(readlink "$2" 2>/dev/null)" = "$1" ] || { mkdir -p "${2%/*}" && qx_point "$2" "$1"; }
}

# add_to_runlevel SERVICE RUNLEVEL
add_to_runlevel() {
  recorded "enabled  $2/$1" && return
  mkdir -p "$root/etc/runlevels/$2"
  [ -L "$root/etc/runlevels/$2/$1" ] || ln -s "/etc/init.d/$1" "$root/etc/runlevels/$2/$1"
  remember "enabled  $2/$1"
  say "enabled $1 in runlevel $2"
}

install_programs() {
  lib=$root/usr/lib/quantix
  put "$project/openrc/quantix-functions.sh" "$lib/functions.sh" 644
  for name in node-run node-watch deadline reboot-guard qx-console-launcher; do put "$project/openrc/$name" "$lib/$name" 755; done
  # By it the agent knows whether the boot partition has the one of its image.
  put "$project/grub/grub.cfg" "$lib/grub.cfg" 644
  put "$executable" "$lib/bin/qx-node" 755
  put "$project/openrc/qx-console" "$lib/bin/qx-console" 755
  for name in qx-update qx-update-server qx-release qx-fleet; do link qx-node "$lib/bin/$name"; done
  if [ -n "$rt" ]; then
    for file in "$rt"/*; do put "$file" "$lib/rt/${file##*/}" 755; done
  fi
  # Relative, so that they also hold inside a root folder that is not the machine's.
  for name in qx-node qx-update qx-update-server qx-release qx-fleet; do link "../../run/quantix/bin/$name" "$root/usr/bin/$name"; done
  link ../lib/quantix/qx-console-launcher "$root/usr/bin/qx-console"
}

install_versions() {
  mkdir -p "$root/usr/share/quantix/versions" "$root/etc"
  printf '%s\n' "$version" >"$root/usr/share/quantix/.version"
  put "$root/usr/share/quantix/.version" "$version_file" 644
  for name in qx-node qx-console; do put "$root/usr/share/quantix/.version" "$root/usr/share/quantix/versions/$name.version" 644; done
  rm -f "$root/usr/share/quantix/.version"
}

install_services() {
  for name in quantix-node quantix-boot quantix-deadline quantix-reboot quantix-console; do
    put_editable "$project/openrc/$name" "$root/etc/init.d/$name" 755 "init.d/$name"
  done
  for script in "$project"/local.d/*.start; do
    put_editable "$script" "$root/etc/local.d/${script##*/}" 755 "local.d/${script##*/}"
  done
  add_to_runlevel quantix-deadline sysinit
  add_to_runlevel quantix-reboot shutdown
  add_to_runlevel quantix-boot boot
  add_to_runlevel quantix-node default
  add_to_runlevel local default
  if [ "$console" = yes ]; then add_to_runlevel quantix-console default; fi
  [ -e "$root/etc/init.d/local" ] || say "note: $root/etc/init.d/local is not there; OpenRC brings it, and 99-ab-update-verify.start needs it"
}

install_settings() {
  put_once "$root/etc/limiquantix/node.yaml" 600 <"$project/openrc/node.yaml"
  put_once "$root/etc/conf.d/quantix-boot" 644 <<'CONF'
# Seconds that a trial boot has to be confirmed in before the host reboots (1 to 99999).
#deadline_s=600
# Seconds that this reboot may take in good order before it is forced.
#grace_s=60
# Seconds that any other reboot by the agent may take, for guests and services to stop, before it is forced.
#reboot_s=600
# Seconds after that in which the disks are flushed and made read-only.
#disks_s=30
CONF
  put_once "$root/etc/conf.d/quantix-node" 644 <<'CONF'
# More arguments for qx-node.
#QX_NODE_ARGS=""
# Seconds before an agent that ended is started again.
#respawn_delay=5
# Seconds without a sign of life after which an agent is ended, and in which a new one has to be healthy (1 to 99999). Here,
# or in /quantix/limiquantix/quantix-node.
#hang_s=90
#start_s=300
CONF
  put_once "$root/etc/conf.d/quantix-console" 644 <<'CONF'
# The terminal that the status screen takes.
#QX_CONSOLE_TTY=/dev/tty1
CONF
}

# make_environment FILE: slot A is good, slot B holds nothing yet. Padded to the full size, as GRUB reads it.
make_environment() {
  [ ! -e "$1" ] || return 0
  printf '%s\n' '# GRUB Environment Block' 'quantix_order=A B' quantix_a_ok=1 quantix_b_ok=0 quantix_a_tries=0 \
    quantix_b_tries=0 quantix_trial= quantix_failed= >"$1.qx-new"
  printf 'quantix_seal=%s\n' "$(qx_env_seal "$1.qx-new")" >>"$1.qx-new"
  padding=$((QX_ENV_SIZE_BYTES - $(wc -c <"$1.qx-new")))
  head -c "$padding" /dev/zero | tr '\000' '#' >>"$1.qx-new"
  qx_env_valid "$1.qx-new" || die "made an invalid GRUB environment in $1.qx-new"
  sync "$1.qx-new"
  mv -f "$1.qx-new" "$1"
  say "made $1"
}

install_boot() {
  mkdir -p "$boot_dir" || die "cannot make $boot_dir"
  put_editable "$project/grub/grub.cfg" "$boot_dir/grub.cfg" 644 boot/grub.cfg
  make_environment "$boot_dir/grubenv"
  make_environment "$boot_dir/grubenv.bak"
  [ -n "$slot_a" ] || return 0
  put_once "$boot_dir/quantix-layout.cfg" 644 <<LAYOUT
set qx_slot_a="$slot_a"
set qx_slot_b="$slot_b"
LAYOUT
}

mkdir -p "${record%/*}"
install_programs
install_versions
install_services
install_settings
install_boot
say "Quantix host $version is in ${root:-/}"
