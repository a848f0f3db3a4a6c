# Builder: the packages' /etc, what their postinst scripts would have written there, and our skeleton over it. activate copies it
# to the client's /etc; $out/manifest is the list by which a later generation removes what it no longer has.
etc=$out/etc
mkdir -p $etc
for package in $packages; do
  [ -d $package/etc ] || continue
  cp -rf $package/etc/. $etc/
  chmod -R u+w $etc
done
cp $basefiles/usr/share/base-files/profile $basefiles/usr/share/base-files/motd $etc/
cp $libcbin/usr/share/libc-bin/nsswitch.conf $etc/
printf '/bin/sh\n/bin/bash\n/bin/dash\n' > $etc/shells
ln -sf /usr/share/zoneinfo/Etc/UTC $etc/localtime
ln -sf ../proc/self/mounts $etc/mtab
mkdir -p $etc/ssl/certs
find $certificates/usr/share/ca-certificates -name '*.crt' | sort | xargs cat > $etc/ssl/certs/ca-certificates.crt

cp -rf $skeleton/. $etc/
chmod -R u+w $etc
sed -i "s,@agent@,$agent/bin/rookery-agent," $etc/systemd/system/rookery-report.service $etc/systemd/system/rookery-register.service
enable() { # TARGET UNIT [TEMPLATE]: what `systemctl enable` does
  mkdir -p $etc/systemd/system/$1.wants
  if [ -e $etc/systemd/system/$2 ]; then file=../$2; else file=/lib/systemd/system/${3:-$2}; fi
  ln -s $file $etc/systemd/system/$1.wants/$2
}
enable getty.target getty@tty1.service getty@.service
enable multi-user.target systemd-networkd.service
enable sockets.target systemd-networkd.socket
enable network-online.target systemd-networkd-wait-online.service
enable multi-user.target rookery-register.service
enable multi-user.target rookery-report.service
ln -s /lib/systemd/system/multi-user.target $etc/systemd/system/default.target
(cd $etc; find . ! -type d | sort) > $out/manifest
