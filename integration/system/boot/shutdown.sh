#!/bin/busybox sh
# The end: systemd has stopped everything, made /run/initramfs the root and moved the old one to /oldroot. $1 is what was asked for.
b=/bin/busybox
for mount in usr nix/store nix; do $b umount /oldroot/$mount; done
$b sync
case $1 in
poweroff | halt) $b "$1" -f ;;
*) $b reboot -f ;;
esac
$b sleep 60
