# Builder: one Debian package as it is, less what nobody reads on a client. Nothing inside a .deb names a store path, and Nix finds
# references by looking for them: the packages of its Depends ($deps) are written into a file.
mkdir $out
member=$(ar t "$deb" | grep '^data\.tar')
case $member in
*.xz) unpack=unxz ;;
*.gz) unpack=gunzip ;;
*) echo "$deb: $member is compressed in a way that busybox cannot undo"; exit 1 ;;
esac
ar p "$deb" "$member" | $unpack -c | tar x -C $out --no-same-permissions
chmod -R u+w $out
for unread in doc man locale lintian info bug; do rm -rf $out/usr/share/$unread; done
if [ -n "${shrink:-}" ]; then . $shrink; fi
mkdir -p $out/nix-support
echo $deps > $out/nix-support/depends
