#!@busybox@ sh
# Makes the root directory around this system: /usr, /etc, users, directories for state. Run by stage 2, and again by whoever
# switches a running machine to this system; what no generation put into /etc is kept.
set -e
umask 022
mkdir -p /usr /etc /var/lib /var/log /var/cache /var/tmp /home /mnt /srv /opt
mkdir -p -m 700 /root
mkdir -p -m 1777 /tmp
chmod 1777 /tmp /var/tmp

# A bind mount, not a link: a link such as ../../etc/x below /usr has to lead to the real /etc.
mount --bind @path@/usr /usr
mount -o remount,bind,ro /usr
for directory in bin sbin lib lib64; do [ -L /$directory ] || ln -s usr/$directory /$directory; done
[ -L /var/run ] || ln -s /run /var/run
[ -L /var/lock ] || ln -s /run/lock /var/lock

old=/var/lib/etc-manifest
if [ -e $old ]; then grep -vxFf @etc@/manifest $old | while read -r file; do rm -f "/etc/$file"; done; fi
cp -rf @etc@/etc/. /etc/
chmod -R u+w /etc
cp -f @etc@/manifest $old
chmod u+w $old

# Debian's master files, with an empty password for root: whoever reaches the console of a lab machine may log in.
if [ ! -e /etc/passwd ]; then
  sed 's,^root:[^:]*:,root:x:,' /usr/share/base-passwd/passwd.master > /etc/passwd
  cat /usr/share/base-passwd/group.master > /etc/group
  (umask 077; awk -F: '{ print $1 ":" ($1 == "root" ? "" : "*") ":19000:0:99999:7:::" }' /etc/passwd > /etc/shadow)
fi
/usr/bin/systemd-sysusers
for file in profile bashrc; do [ -e /root/.$file ] || cat /usr/share/base-files/dot.$file > /root/.$file; done

# With a machine-id systemd does not take this for a first boot, on which it would enable every unit by its preset. Derived from the
# card that the machine booted from: / is forgotten at every boot, the machine should stay the same to its journal and its server.
if [ ! -s /etc/machine-id ]; then
  card=$(sed -n 's/.*BOOTIF=\([-0-9A-Fa-f]*\).*/\1/p' /proc/cmdline | tr A-F a-f)
  if [ -n "$card" ]; then echo "rookery $card"; else cat /proc/sys/kernel/random/uuid; fi | md5sum | cut -c1-32 > /etc/machine-id
fi
# ConditionNeedsUpdate= jobs were done at build time.
touch /etc/.updated /var/.updated
touch /etc/NIXOS # Nix' tools for a running system ask for it
ln -sfn @out@ /run/current-system

# At shutdown systemd itself runs from /nix, so nobody could unmount it. It hands over to this, when it is there.
mkdir -p /run/initramfs/bin /run/initramfs/proc /run/initramfs/sys /run/initramfs/dev /run/initramfs/run /run/initramfs/oldroot
cp @busybox@ /run/initramfs/bin/busybox
cp @shutdown@ /run/initramfs/shutdown
chmod 755 /run/initramfs/shutdown
