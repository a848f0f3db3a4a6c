#!/bin/busybox sh
# The end: systemd has stopped everything, made /run/initramfs the root and moved the old one to /oldroot. $1 is what was asked for.
b=/bin/busybox
# what systemd could not unmount, as it ran from there
for mount in usr nix/store nix; do $b umount /oldroot/$mount 2> /dev/null; done
$b sync
case $1 in
poweroff | halt) $b "$1" -f ;;
*) $b reboot -f ;;
esac
$b sleep 60
