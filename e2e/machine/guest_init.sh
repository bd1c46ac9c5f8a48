#!/bin/busybox sh
# The first process of the stock Linux guest: a shell on its console.
export PATH=/sbin:/bin:/usr/sbin:/usr/bin HOME=/root TERM=vt100 PS1='guest# '
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /tmp /root
while read -r module; do
  insmod $module
done </modules
echo
memory=$(awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo)
echo "guest ready: Linux $(uname -r), $(nproc) CPU, $memory MiB"
echo "leave with: poweroff -f, reboot -f"
while :; do
  setsid cttyhack sh
done
