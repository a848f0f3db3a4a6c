#!@busybox@ sh
# Stage 2: process 1 on the real root, a tmpfs that holds nothing but /nix. The interpreter is a static busybox, as neither ld.so nor
# /usr are there before activate has made them.
bb=@busybox@
$bb mkdir -p /proc /sys /dev /run
[ -e /proc/self ] || $bb mount -t proc proc /proc # busybox's shell starts its applets through it
[ -e /sys/kernel ] || mount -t sysfs sysfs /sys
[ -c /dev/null ] || mount -t devtmpfs devtmpfs /dev
grep -q ' /run tmpfs ' /proc/mounts || mount -t tmpfs -o mode=755,nosuid,nodev tmpfs /run
exec < /dev/console > /dev/console 2>&1
echo "stage 2: @out@ [$(cut -d' ' -f1 /proc/uptime) s]"

# The store is written by Nix alone, which lifts this for itself. The rest of /nix stays writable.
mount --bind /nix/store /nix/store
mount -o remount,bind,ro /nix/store

ln -sfn @out@ /run/booted-system # /lib/modules leads through it
@out@/activate || echo "stage 2: activate failed, the system may be incomplete"
echo "stage 2: systemd starts [$(cut -d' ' -f1 /proc/uptime) s]"
exec env -i PATH=/usr/sbin:/usr/bin TERM="${TERM:-linux}" /lib/systemd/systemd
