# Builder: udev's hardware database, which its postinst would compile. systemd-hwdb writes the name of its root into the file, so
# that is a fixed one, and Debian's reads lib/udev below it.
mkdir -p root/usr/lib/udev $out
ln -s usr/lib root/lib
cp -rL $udev/lib/udev/hwdb.d root/usr/lib/udev/
$hwdb --root=root --usr update
cp root/usr/lib/udev/hwdb.bin $out/
