# Sourced by the builders of the initrd.
archive() { # TREE LEVEL: a cpio archive of TREE, the same bytes for the same tree (busybox's cpio numbers inodes as they come)
  (cd $1; find . -exec touch -h -d @1 {} +; find . | sort | $cpio -o -H newc --reproducible --quiet -R +0:+0) |
    $zstd -$2 -T2 --quiet -c
}
