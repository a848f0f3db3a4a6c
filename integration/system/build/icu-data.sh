# Sourced by deb.sh for libicu72: 31 of its 36 MB are tables of calendars, collations and old character sets. Nix links libarchive,
# that libxml2, and that ICU, which none of them asks for anything here. ICU's own build calls a library like this one stub data.
libraries=$out/usr/lib/x86_64-linux-gnu
tables=$(readlink $libraries/libicudata.so.72)
rm $libraries/$tables
echo > stub
$ld -r -b binary -o stub.o stub
$ld -shared --soname libicudata.so.72 --defsym icudt72_dat=_binary_stub_start --strip-all -z noexecstack -o $libraries/$tables stub.o
