#!/bin/bash
# Puts Debian's cloud kernel and what is derived from it into ~/.cache/drover/machine:
#   vmlinuz, vmlinux (the ELF inside it), modules/*.ko, release, guest_initrd (busybox, a shell).
# Installs nothing. Does nothing that is done already; --force fetches the newest kernel again.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
cache=$HOME/.cache/drover
destination=$cache/machine

kernel_package() {
  apt-cache depends linux-image-cloud-amd64 |
    sed -n 's/.*Depends: \(linux-image-[0-9].*-cloud-amd64\)$/\1/p' | head -n 1
}

download() {
  local package
  package=$(kernel_package)
  [ -n "$package" ] && apt-get download -q -o APT::Sandbox::User=root "$package" >&2
}

unpack() { # unpack DEB TREE DIRECTORY
  dpkg -x "$1" "$2"
  mkdir -p "$3/modules"
  cp "$2"/boot/vmlinuz-* "$3/vmlinuz"
  find "$2/lib/modules" -name '*.ko' -exec mv -t "$3/modules" {} +
  basename "$2"/lib/modules/* >"$3/release"
  "$here/machine.py" vmlinux "$3/vmlinuz" "$3/vmlinux"
}

fetch() {
  local scratch
  scratch=$(mktemp -d "$cache/machine.XXXXXX")
  # shellcheck disable=SC2064
  trap "rm -rf '$scratch'" EXIT
  cd "$scratch"
  echo "fetching Debian's cloud kernel for the emulated machine" >&2
  download || { apt-get update -q >&2 && download; } || {
    echo "fetch_kernel.sh: cannot download linux-image-cloud-amd64; try: apt-get update" >&2
    exit 1
  }
  unpack ./linux-image-*.deb tree new
  rm -rf "$destination"
  mv -T new "$destination"
}

write_guest_initrd() {
  "$here/machine.py" guest-initrd "$destination/guest_initrd.$$"
  mv "$destination/guest_initrd.$$" "$destination/guest_initrd"
}

mkdir -p "$cache"
exec 9>"$cache/machine.lock"
flock 9
if [ "${1-}" = --force ] || [ ! -e "$destination/vmlinuz" ]; then
  fetch
fi
write_guest_initrd
