# The peer that `integration/bench boot` measures: a netboot of one squashfs image, as it is done everywhere. stage-1.sh sources this in
# the initrds of that flavour, and these functions take the place of its own. There is no disk: the image of the whole system is
# downloaded into memory and mounted under an overlay.

prepare_disk() { :; }

mount_filesystems() {
  mount -t tmpfs -o mode=755 tmpfs $root || fail_reported mount "cannot mount a tmpfs for /"
  modprobe -a loop squashfs overlay || fail_reported mount "the kernel has no squashfs or no overlay"
}

fetch() {
  server=$(sed 's/.*rookery\.server=\([0-9.]*\).*/\1/' /proc/cmdline)
  system=${init#/nix/store/}
  image=/run/rookery/image
  report fetch started
  mkdir -p /run/rookery/lower /run/rookery/upper /run/rookery/work $root/nix/store
  wget -q -O $image "http://$server:8000/${system%%/*}.squashfs" || fail_reported fetch "the image of $system was not sent"
  mount -t squashfs -o loop,ro $image /run/rookery/lower || fail_reported fetch "the image of $system is none"
  mount -t overlay -o lowerdir=/run/rookery/lower,upperdir=/run/rookery/upper,workdir=/run/rookery/work overlay $root/nix/store ||
    fail_reported fetch "no overlay over the image"
  report fetch ok
}
