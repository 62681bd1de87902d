#!/bin/sh
# Gets ready what the tests in test/vm need besides what test.sh installs: QEMU, a GRUB for its BIOS, and Debian's kernel for
# virtual machines, which is unpacked and never installed. Run again, it does nothing. Fetches about 60 MB.
set -eu
cd "$(dirname "$0")/.."
. scripts/packages.sh

install_packages "$vm_packages"

# Below node_modules: nothing stays on the machine when the checkout is deleted, and git and every checker ignore it already.
cache=node_modules/.cache/quantix-vm
kernel=$cache/kernel

# The package without a version in its name depends on the newest kernel.
name=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1)
[ -n "$name" ] || { echo 'apt knows no linux-image-cloud-amd64' >&2 && exit 1; }
release=${name#linux-image-}

# `release` is written last: a kernel that was unpacked by half is fetched again.
if [ "$(cat "$kernel/release" 2>/dev/null)" != "$release" ]; then
  rm -rf "$kernel"
  mkdir -p "$kernel"
  (cd "$cache" && apt-get download -q "$name" </dev/null >&2)
  dpkg-deb -x "$cache/${name}"_*.deb "$kernel"
  rm -f "$cache/${name}"_*.deb
  depmod -b "$kernel" "$release"
  printf '%s\n' "$release" >"$kernel/release"
fi
echo "kernel $release is in $kernel" >&2
