# Prints the module files of a kernel that are wanted, and those they depend on, each once.
#   awk -v names='loop nbd' -f select-modules.awk modules.builtin modules.dep
# A name that is neither a module nor built in ends it with status 1: a list of modules must not rot unseen.

# "kernel/fs/ext4/ext4.ko" -> "ext4"; the kernel takes "-" and "_" for the same
function module(path) {
  sub(/.*\//, "", path)
  sub(/\.ko.*/, "", path)
  gsub(/-/, "_", path)
  return path
}

FILENAME ~ /modules\.builtin$/ { builtin[module($1)] = 1; next }
{
  sub(/:/, "", $1)
  files[module($1)] = $0
}

END {
  count = split(names, wanted, /[ \n]+/)
  for (i = 1; i <= count; i++) {
    name = wanted[i]
    gsub(/-/, "_", name)
    if (name == "" || name in builtin) continue
    if (!(name in files)) { print "no module " wanted[i] " in this kernel" > "/dev/stderr"; missing = 1; continue }
    n = split(files[name], chain, " ")
    for (j = n; j >= 1; j--) if (!(chain[j] in printed)) { printed[chain[j]] = 1; print chain[j] }
  }
  exit missing
}
