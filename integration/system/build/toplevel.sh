# Builder: the toplevel, with the files that NixOS' has. @NAME@ in the scripts and in boot.json becomes a store path.
fill() { sed -e "s,@out@,$out,g" -e "s,@busybox@,$busybox,g" -e "s,@path@,$path,g" -e "s,@etc@,$etc,g" -e "s,@shutdown@,$shutdown,g" "$1"; }
mkdir $out
for script in init activate; do
  eval "fill \$$script" > $out/$script
  chmod 555 $out/$script
done
ln -s $linux/vmlinuz $out/kernel
ln -s $linux $out/kernel-modules
ln -s $initrd/initrd $out/initrd
ln -s $etc/etc $out/etc
ln -s $path/usr $out/sw
ln -s $path/usr/lib/systemd $out/systemd
echo -n "$kernelParams" > $out/kernel-params
echo -n "$osVersion" > $out/nixos-version
echo -n x86_64-linux > $out/system
echo -n systemd > $out/init-interface-version
mkdir $out/specialisation
children=
for child in $specialisations; do
  ln -s ${child#*=} $out/specialisation/${child%%=*}
  children="$children${children:+,}\"${child%%=*}\":$(cat ${child#*=}/boot.json)"
done
echo "{\"org.nixos.bootspec.v1\":$bootspec,\"org.nixos.specialisation.v1\":{$children}}" | sed "s,@out@,$out,g" > $out/boot.json
