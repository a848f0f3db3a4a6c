# A closure for measuring updates: one store path per Debian package, whose ELF files carry the store paths of its dependencies as
# those of NixOS do. It is published and fetched, never booted: its initrd is only a name.
#
# The builders use the host's shell, dpkg, binutils and patchelf; what they make depends on those but little, and both sides of
# every comparison are made by the same. Scripts end with ":" for the reason that stands in system.nix.
{ packages # file, as `system::packages` writes it, of the words in packages.txt beside this
, label # part of every derivation, so another label gives other hashes and nothing else
}:
let
  inherit (builtins) attrValues baseNameOf fromJSON listToAttrs path readFile replaceStrings unsafeDiscardStringContext;
  clean = replaceStrings [ "~" ":" "%" ] [ "-" "-" "-" ];
  inherit ((fromJSON (readFile packages)).list) kernel system;

  build = name: script: env: derivation ({
    system = "x86_64-linux";
    inherit name label;
    builder = "/bin/bash";
    args = [ "-euc" "${script}\n:" ];
    PATH = "/usr/bin:/bin";
  } // env);

  file = p: path { path = p.file; name = unsafeDiscardStringContext (clean (baseNameOf p.file)); };
  package = p: build (clean "${p.name}-${p.version}") (readFile ./package.sh) {
    deb = file p;
    deps = map (name: set.${name}) p.deps;
    libc = if builtins.elem "libc6" p.deps then set.libc6 else "";
  };
  set = listToAttrs (map (p: { inherit (p) name; value = package p; }) system);
  linux = build (clean "linux-image-${kernel.release}-${kernel.version}") (readFile ./package.sh) {
    deb = file kernel;
    deps = [ ];
    libc = "";
  };
in
{
  toplevel = build "nixos-system-bench" ''
    mkdir $out $out/sw
    for path in $packages; do ln -s $path $out/sw/; done
    ln -s $linux/boot/vmlinuz-* $out/kernel
    ln -s $linux $out/kernel-modules
    echo initrd > $out/initrd
    printf '#!%s/bin/bash\n' $bash > $out/init
    chmod +x $out/init
    echo loglevel=4 > $out/kernel-params
    printf 26.05 > $out/nixos-version
    printf x86_64-linux > $out/system
  '' { packages = attrValues set; inherit linux; inherit (set) bash; };
}
