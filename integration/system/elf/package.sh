# Builder: one Debian package ($deb) whose programs and libraries find their interpreter and libraries by store path ($libc, $deps).
mkdir $out
dpkg-deb --fsys-tarfile "$deb" | tar x -C $out --no-same-owner --no-same-permissions
chmod -R u+w $out
rm -rf $out/usr/share/{doc,man,locale,lintian,info,bug}
arch=lib/x86_64-linux-gnu
search=$out/$arch:$out/usr/$arch
for path in $deps; do search=$search:$path/$arch:$path/usr/$arch; done
find $out -type f ! -name '*.ko*' \( -perm -100 -o -name '*.so*' \) | while read -r file; do
  # The loader itself and what is linked statically have nothing to set.
  readelf -d "$file" 2> /dev/null | grep -q NEEDED || continue
  if [ -n "$libc" ] && readelf -l "$file" | grep -q INTERP; then
    patchelf --set-interpreter $libc/$arch/ld-linux-x86-64.so.2 "$file"
  fi
  patchelf --force-rpath --set-rpath $search "$file"
done
mkdir -p $out/nix-support
echo $deps > $out/nix-support/depends
