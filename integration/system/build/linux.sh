# Builder: Debian's kernel with the modules of $modules and what those depend on, and depmod's index files over just them.
# 400 MB of modules become some 20: an update of the kernel is no longer most of what an update sends.
mkdir full
ar p "$deb" data.tar.xz | unxz -c | tar x -C full ./boot ./lib --no-same-permissions
$depmod -b full $version
index=full/lib/modules/$version

tree=$out/lib/modules/$version
mkdir -p $tree
cp full/boot/vmlinuz-$version $out/vmlinuz
cp full/boot/config-$version $out/config
cp $index/modules.order $index/modules.builtin $index/modules.builtin.modinfo $tree/
awk -v names="$modules" -f $select $index/modules.builtin $index/modules.dep > files
while read -r file; do
  mkdir -p $tree/${file%/*}
  cp $index/$file $tree/$file
done < files
$depmod -b $out $version
test -s $tree/modules.dep.bin
