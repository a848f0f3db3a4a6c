# Builder: all packages as one tree with a merged /usr. Files become links into the packages. Links are copied instead: systemd
# takes an alias (default.target) that leads out of its search path for a unit of its own, and a relative link may lead into
# another package.
usr=$out/usr
mkdir -p $usr
merge() { # SOURCE TARGET: link the files, copy the links
  mkdir -p $2
  cp -rsf $1/. $2/
  find $2 -type d ! -perm -200 -exec chmod u+w {} + # cp hands on the store's mode 0555
}
for package in $packages; do
  for directory in bin sbin lib lib64; do
    if [ -d $package/$directory ]; then merge $package/$directory $usr/$directory; fi
  done
  if [ -d $package/usr ]; then merge $package/usr $usr; fi
done
for package in $packages; do
  for directory in bin sbin lib lib64 usr; do
    [ -d $package/$directory ] || continue
    if [ $directory = usr ]; then target=$usr; else target=$usr/$directory; fi
    (cd $package/$directory; find . -type l) > links
    while read -r link; do
      rm -f $target/$link
      cp -P $package/$directory/$link $target/$link
    done < links
  done
done

# Through /run, so that the modules stay those of the running kernel when another system is activated.
ln -s /run/booted-system/kernel-modules/lib/modules $usr/lib/modules
ln -sf $hwdb/hwdb.bin $usr/lib/udev/hwdb.bin
# what update-alternatives would have linked
for alternative in awk:mawk nawk:mawk pager:less which:which.debianutils; do
  ln -sf ${alternative#*:} $usr/bin/${alternative%%:*}
done
