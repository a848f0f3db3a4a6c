# Builder: the initrd, two archives behind one another: the payload, and what belongs to this kernel and this site.
. $archive
mkdir -p tree/bin tree/sbin tree/etc/rookery tree/usr tree/mnt-root
ln -s ../bin tree/usr/bin
ln -s ../sbin tree/usr/sbin
cp $busybox tree/bin/busybox
$busybox --list | while read -r applet; do
  # the payload brings these, and better ones
  case $applet in busybox | mke2fs | mkfs.ext2) continue ;; esac
  ln -s busybox tree/bin/$applet
done
ln -s ../bin/busybox tree/sbin/modprobe # where the kernel itself calls it
cp $agent/bin/rookery-agent tree/bin/
cp $stage1 tree/init
cp $udhcpc tree/etc/udhcpc.sh
chmod 755 tree/init tree/etc/udhcpc.sh
cp $layout tree/etc/rookery/layout.json
cp $keys tree/etc/rookery/trusted-public-keys
echo $via > tree/etc/rookery/via
if [ $via = squashfs ]; then cp $squashfs tree/etc/rookery/squashfs.sh; fi

from=$linux/lib/modules/$version
to=tree/lib/modules/$version
mkdir -p $to
cp $from/modules.order $from/modules.builtin $from/modules.builtin.modinfo $to/
awk -v names="$modules" -f $select $from/modules.builtin $from/modules.dep > files
while read -r file; do
  mkdir -p $to/${file%/*}
  cp $from/$file $to/$file
done < files
$depmod -b tree $version
rm -f $to/*.bin # for kmod; busybox reads the text

mkdir $out
(cat $payload/payload.cpio.zst; archive tree 10) > $out/initrd
