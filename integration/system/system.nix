# A system in the shape of a NixOS closure, from Debian packages: one store path per package (references follow Depends), a pruned
# kernel, the merged /usr and /etc, the initrd, the toplevel. `lab system build` calls it and writes its arguments.
#
# Every builder is the static busybox running a script of build/, so a sandbox that sees nothing but the store is enough. Programs
# of Debian that run at build time (depmod, cpio, ...) are started through the store's own ld.so.
#
# Each script is followed by ":". A last command that the shell replaces itself with closes its output before it exits, and Nix may
# kill it in that moment ("failed due to signal 9").
{ packages # file: the system's packages and kernel
, tools # file: packages that are needed while building
, agent # a static rookery-agent
, keys # public keys, in Nix's format, one a line
, payload # directory: programs and libraries for the initrd, Nix among them or not
, via # who brings the system in stage 1: "rookery" (the agent itself), "nix" (the agent drives that of the payload), "squashfs" (a peer)
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

  # `system::packages` wrote them: what apt was asked for, and a list in which each stands behind what it refers to.
  inherit ((fromJSON (readFile packages)).list) kernel system;
  tool = unpackedSet (fromJSON (readFile tools)).list.packages { };

  debFile = p: source (unsafeDiscardStringContext (clean (baseNameOf p.file))) p.file;
  unpackedSet = list: shrink:
    let
      set = listToAttrs (map (p: { inherit (p) name; value = one p; }) list);
      env = p: { deb = debFile p; deps = map (name: set.${name}) p.deps; } // shrink.${p.name} or { };
      one = p: build (clean "${p.name}-${p.version}") "deb" (env p) // { inherit p; };
    in
    set;
  client = unpackedSet system { libicu72 = { shrink = source "icu-data.sh" ./build/icu-data.sh; inherit ld; }; };

  # A command line that runs a program of a package at build time, as `argv0`.
  command = set: name: program: argv0: libraries:
    let
      names = map (n: n.key) (genericClosure {
        startSet = [ { key = name; } ];
        operator = n: map (key: { inherit key; }) set.${n.key}.p.deps;
      });
      directories = concatMap (n: [ "${set.${n}}/lib/x86_64-linux-gnu" "${set.${n}}/usr/lib/x86_64-linux-gnu" ]) names;
    in
    "${set.libc6}/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 --argv0 ${argv0}"
    + " --library-path ${concatStringsSep ":" (directories ++ libraries)} ${set.${name}}/${program}";
  depmod = command tool "kmod" "bin/kmod" "depmod" [ ];
  cpio = command tool "cpio" "bin/cpio" "cpio" [ ];
  zstd = command tool "zstd" "usr/bin/zstd" "zstd" [ ];
  ld = command tool "binutils-x86-64-linux-gnu" "usr/bin/x86_64-linux-gnu-ld.bfd" "ld" [ ];

  # ---- the parts of a system

  inherit (kernel) release; # 6.1.0-37-amd64
  select = source "select-modules.awk" ./build/select-modules.awk;
  busybox = "${client.busybox-static}/bin/busybox";

  linux = build (clean "linux-image-${release}-${kernel.version}") "linux" {
    deb = debFile kernel;
    inherit depmod select;
    version = release;
    modules = "${initrdModules} ${systemModules}";
  };
  hwdb = build "hwdb" "hwdb" {
    inherit (client) udev;
    hwdb = command client "udev" "bin/systemd-hwdb" "systemd-hwdb" [ "${client.libsystemd-shared}/usr/lib/x86_64-linux-gnu/systemd" ];
  };
  systemPath = build "system-path" "system-path" { packages = attrValues client; inherit hwdb; };
  rookeryAgent = build "rookery-agent" "agent" { agent = source "rookery-agent-binary" agent; };
  etc = build "etc" "etc" {
    packages = attrValues client;
    skeleton = source "etc-skeleton" ./etc;
    agent = rookeryAgent;
    basefiles = client.base-files;
    libcbin = client.libc-bin;
    certificates = client.ca-certificates;
  };

  archive = source "archive.sh" ./build/archive.sh;
  initrdPayload = build "initrd-payload" "payload" { inherit archive cpio zstd; payload = source "payload" payload; };
  initrd = build "initrd-linux-${release}" "initrd" {
    inherit archive cpio zstd depmod select linux busybox via;
    version = release;
    payload = initrdPayload;
    modules = initrdModules + (if via == "squashfs" then " loop squashfs overlay" else "");
    agent = rookeryAgent;
    keys = source "trusted-public-keys" keys;
    layout = source "layout.json" ./layout.json;
    stage1 = source "stage-1.sh" ./boot/stage-1.sh;
    udhcpc = source "udhcpc.sh" ./boot/udhcpc.sh;
    squashfs = source "squashfs.sh" ./boot/squashfs.sh;
  };

  # ---- the toplevel, and its specialisation

  label = "Rookery lab ${osVersion} (Linux ${release})";
  toplevel = { suffix ? "", note ? "", kernelParams, specialisations ? { } }: build "nixos-system-rookery-${generation}${suffix}" "toplevel" {
    inherit linux initrd etc busybox osVersion;
    path = systemPath;
    init = source "stage-2.sh" ./boot/stage-2.sh;
    activate = source "activate.sh" ./boot/activate.sh;
    shutdown = source "shutdown.sh" ./boot/shutdown.sh;
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
  inherit client linux etc systemPath initrd initrdPayload;
  toplevel = toplevel { inherit kernelParams; specialisations = { inherit debug; }; };
}
