#!/bin/busybox sh
# The machine's first process: moves everything from the initramfs to a tmpfs: pivot_root(2),
# which jails are made with, refuses to leave an initramfs.
set -e
busybox mkdir /root.tmpfs
busybox mount -t tmpfs -o size=90%,mode=755 root /root.tmpfs
for entry in /*; do
  [ "$entry" = /root.tmpfs ] || busybox cp -a "$entry" /root.tmpfs/
done
exec busybox switch_root /root.tmpfs /machine/init
