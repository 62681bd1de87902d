# shellcheck shell=sh
# What a Debian 12 machine needs besides npm. Sourced from the top of the repository by test.sh, demo.sh and
# vm-packages.sh.
# shellcheck disable=SC2034

debian_packages='binutils busybox-static ca-certificates curl e2fsprogs fdisk fish git grub-common grub-emu mount openrc openssl
patchelf postgresql procps shellcheck squashfs-tools util-linux xz-utils zsh zstd'

# What the virtual machine of test/vm needs besides; vm-packages.sh installs it.
vm_packages='cpio grub-efi-amd64-bin grub-pc-bin kmod mtools ovmf qemu-system-x86'

# missing_packages PACKAGE...
missing_packages() {
  for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null)" = 'ii ' ] || printf '%s ' "$package"
  done
}

# install_packages LIST: those of the list that are missing.
# Without root, or on another system, nothing is installed: the tests that need more then skip and say why.
install_packages() {
  command -v dpkg-query >/dev/null || return 0
  # shellcheck disable=SC2086
  missing=$(missing_packages $1)
  [ -n "$missing" ] || return 0
  if [ "$(id -u)" -ne 0 ]; then
    echo "not installed, and this is not root: $missing" >&2
    return 0
  fi
  echo "installing $missing" >&2
  apt-get update -q </dev/null >&2 || return 1
  # --no-remove: rather stop than take a package away from the machine.
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends --no-remove $missing </dev/null >&2
}

# npm writes its own copy of the lock file last: older than ours, or absent, it says that what is installed is not ours.
install_node_modules() {
  newer=$(find package-lock.json -newer node_modules/.package-lock.json 2>&1) || newer=absent
  [ -x node_modules/.bin/node ] && [ -z "$newer" ] && return 0
  npm ci </dev/null >&2
}
