# Builder: the part of the initrd that is the same for every generation: mke2fs and e2fsck, in one flavour Nix too, their libraries and
# their ld.so, where that ld.so looks for them by itself. Nothing is patched.
. $archive
cp -r $payload tree
chmod -R u+w tree
mkdir -p tree/etc tree/root tree/tmp
echo 'root:x:0:0:root:/root:/bin/sh' > tree/etc/passwd
echo 'root:x:0:' > tree/etc/group
mkdir $out
archive tree 10 > $out/payload.cpio.zst
