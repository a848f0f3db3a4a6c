# A system in the shape of a NixOS closure, from Debian packages: one store path per package (references follow Depends), a pruned
# kernel, the merged /usr and /etc, the initrd, the toplevel. `lab system build` calls it and writes its arguments.
#
# Every builder is the static busybox running a script of build/, so a sandbox that sees nothing but the store is enough. Programs
# of Debian that run at build time (depmod, cpio, ...) are started through the store's own ld.so.
#
# Each script is followed by ":". A last command that the shell replaces itself with closes its output before it exits, and Nix may
# kill it in that moment ("failed due to signal 9").
{ packages # what `system::packages` resolved: {kernel, system, build} with name, version, file, deps
, agent # a static rookery-agent
, keys # public keys, in Nix's format, one a line
, payload # directory: programs and libraries for the initrd
, bootstrap # directory with a static busybox called "busybox"
, generation # what the toplevel is called by: "1"
, osVersion # for nixos-version and the label
, initrdModules
, systemModules
}:
let
  inherit (builtins) attrValues concatMap concatStringsSep fromJSON genericClosure listToAttrs mapAttrs path
    readFile replaceStrings toJSON unsafeDiscardStringContext;

  # ---- building blocks

  # A store path's name may not hold these, a Debian version may.
  clean = replaceStrings [ "~" ":" "%" ] [ "-" "-" "-" ];
  # Under a fixed name, so that only the content decides the store path.
  source = name: file: path { inherit name; path = file; };

  shell = source "busybox-bootstrap" bootstrap;
  build = name: script: env: derivation ({
    system = "x86_64-linux";
    inherit name;
    builder = "${shell}/busybox"; # which applet to be, busybox reads off the file's name
    args = [ "sh" "-euc" (readFile (./build + "/${script}.sh") + "\n:") ];
    PATH = "/nowhere"; # the shell finds busybox's applets without one
  } // env);

  # ---- packages

  resolved = fromJSON (readFile packages);
  info = listToAttrs (map (p: { inherit (p) name; value = p; }) (resolved.system ++ resolved.build));
  debFile = p: source (unsafeDiscardStringContext (clean (baseNameOf p.file))) p.file;
  package = mapAttrs (_: p: build (clean "${p.name}-${p.version}") "deb" { deb = debFile p; deps = map (d: package.${d}) p.deps; }) info;
  system = map (p: package.${p.name}) resolved.system;

  # A command line that runs `program` of package `name` at build time.
  command = name: program: argv0:
    let
      names = map (n: n.key) (genericClosure {
        startSet = [ { key = name; } ];
        operator = n: map (key: { inherit key; }) info.${n.key}.deps;
      });
      directories = concatMap (n: [ "${package.${n}}/lib/x86_64-linux-gnu" "${package.${n}}/usr/lib/x86_64-linux-gnu" ]) names;
      extra = if name == "systemd" || name == "udev" then [ "${package.libsystemd-shared}/usr/lib/x86_64-linux-gnu/systemd" ] else [ ];
    in
    "${package.libc6}/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 --argv0 ${argv0}"
    + " --library-path ${concatStringsSep ":" (directories ++ extra)} ${package.${name}}/${program}";
  depmod = command "kmod" "bin/kmod" "depmod";
  cpio = command "cpio" "bin/cpio" "cpio";
  zstd = command "zstd" "usr/bin/zstd" "zstd";

  # ---- the parts of a system

  inherit (resolved.kernel) version;
  release = resolved.kernel.release; # 6.1.0-37-amd64
  select = source "select-modules.awk" ./build/select-modules.awk;
  busybox = "${package.busybox-static}/bin/busybox";

  linux = build (clean "linux-image-${release}-${version}") "linux" {
    deb = debFile resolved.kernel;
    inherit depmod select;
    version = release;
    modules = "${initrdModules} ${systemModules}";
  };
  hwdb = build "hwdb" "hwdb" { inherit (package) udev; hwdb = command "udev" "bin/systemd-hwdb" "systemd-hwdb"; };
  systemPath = build "system-path" "system-path" { packages = system; inherit hwdb; };
  rookeryAgent = build "rookery-agent" "agent" { agent = source "rookery-agent-binary" agent; };
  etc = build "etc" "etc" {
    packages = system;
    skeleton = source "etc-skeleton" ./etc;
    agent = rookeryAgent;
    basefiles = package.base-files;
    libcbin = package.libc-bin;
    certificates = package.ca-certificates;
  };

  archive = source "archive.sh" ./build/archive.sh;
  initrdPayload = build "initrd-payload" "payload" { inherit archive cpio zstd; payload = source "payload" payload; };
  initrd = build "initrd-linux-${release}" "initrd" {
    inherit archive cpio zstd depmod select linux busybox;
    version = release;
    payload = initrdPayload;
    modules = initrdModules;
    agent = rookeryAgent;
    keys = source "trusted-public-keys" keys;
    layout = source "layout.json" ./layout.json;
    stage1 = source "stage-1.sh" ./boot/stage-1.sh;
    udhcpc = source "udhcpc.sh" ./boot/udhcpc.sh;
  };

  # ---- the toplevel, and its specialisation

  label = "Rookery lab ${osVersion} (Linux ${release})";
  toplevel = { suffix ? "", note ? "", kernelParams, specialisations ? { } }: build "nixos-system-rookery-${generation}${suffix}" "toplevel" {
    inherit linux initrd etc busybox osVersion;
    path = systemPath;
    init = source "stage-2.sh" ./boot/stage-2.sh;
    activate = source "activate.sh" ./boot/activate.sh;
    kernelParams = concatStringsSep " " kernelParams;
    specialisations = attrValues (mapAttrs (name: child: "${name}=${child}") specialisations);
    bootspec = toJSON {
      inherit kernelParams;
      system = "x86_64-linux";
      label = label + note;
      kernel = "${linux}/vmlinuz";
      initrd = "${initrd}/initrd";
      init = "@out@/init";
      toplevel = "@out@";
    };
  };
  kernelParams = [ "console=tty0" "console=ttyS0,115200" "loglevel=4" "panic=10" ];
  debug = toplevel { suffix = "-debug"; note = " debug"; kernelParams = kernelParams ++ [ "systemd.show_status=1" "rookery.debug=1" ]; };
in
{
  inherit package linux etc systemPath initrd initrdPayload;
  toplevel = toplevel { inherit kernelParams; specialisations = { inherit debug; }; };
}
