#!/bin/busybox sh
# Stage 1 of the lab's client: process 1 in the initrd, from the kernel's hand-over to the generation's own init.
#
# The order is that of NixOS' scripted stage 1 (the older of its two): mount the kernel's
# file systems, read the command line, load modules, network (NixOS puts it first of preLVMCommands), disk (preLVMCommands, after the
# network), mount below /mnt-root, fetch (first of postMountCommands), check that init is there, move the mounts, switch_root.
#
# Nobody may be sitting in front of the machine: whatever goes wrong is said in one sentence on every console and to the server, then the
# machine waits a while (so that the sentence can be read) and does what rookery.onfail= says. Only one thing waits for ever: a disk that
# may not be written, where the layout's on-refuse is `halt`, as it is unless given: the next boot would end here too, and somebody has to
# come and may have to copy a serial number.
#
# Read from the kernel command line:
#   init=PATH                           what to hand over to, /nix/store/...-nixos-system-.../init
#   BOOTIF=01-AA-BB-CC-DD-EE-FF         the network card that the firmware booted from (pxelinux: IPAPPEND 2)
#   rookery.onfail=reboot|poweroff|shell  after a failure; reboot unless given
#   rookery.onfail-wait=SECONDS         how long the sentence stays; 30
#   rookery.network-wait=SECONDS        how long to look for the card, its link and a DHCP server, each; 120
# rookery.server= and rookery.generation= are read by the agent itself.

export PATH=/sbin:/bin HOME=/root
root=/mnt-root

consoles() { # every one that the kernel writes to: the screen and the serial line
  cat /sys/class/tty/console/active 2> /dev/null || echo console
}

say() {
  for console in $(consoles); do
    echo "stage 1: $* [$(uptime_seconds) s]" > /dev/$console
  done
}

uptime_seconds() { cut -d' ' -f1 /proc/uptime; }

# The agent's verbs `disk` and `fetch` report for themselves; this is for the other steps. That the server doesn't listen must never
# stop a boot, and what can't be sent now the agent sends with its next report.
report() { # STEP STATUS [DETAIL]
  timeout 15 rookery-agent report --step "$1" --status "$2" ${3:+--detail "$3"} > /dev/null 2>&1 || true
}

fail() { # SENTENCE
  say "$1"
  case $onfail in
  shell)
    say "a shell, because of rookery.onfail=shell; leave it to reboot"
    setsid cttyhack sh
    ;;
  *)
    say "this machine will $onfail in $onfail_wait s"
    sleep "$onfail_wait"
    ;;
  esac
  sync
  case $onfail in poweroff) poweroff -f ;; *) reboot -f ;; esac
  sleep 60 # both return before they have happened, and process 1 must not end
}

fail_reported() { # STEP SENTENCE
  report "$1" failed "$2"
  fail "$2"
}

mount_kernel_filesystems() {
  mkdir -p /proc /sys /dev /run /tmp $root
  mount -t proc -o nosuid,noexec,nodev proc /proc
  mount -t sysfs -o nosuid,noexec,nodev sysfs /sys
  mount -t devtmpfs -o mode=755,nosuid devtmpfs /dev
  mkdir -p /dev/pts
  mount -t devpts -o mode=620,gid=5,nosuid,noexec devpts /dev/pts
  mount -t tmpfs -o mode=755,nosuid,nodev tmpfs /run
  mkdir -p /run/rookery
}

read_command_line() {
  init='' bootif='' onfail=reboot onfail_wait=30 network_wait=120
  set -f # a word such as "foo=*" is not a pattern
  for word in $(cat /proc/cmdline); do
    case $word in
    init=*) init=${word#init=} ;;
    BOOTIF=*) bootif=$word ;;
    rookery.onfail=reboot | rookery.onfail=poweroff | rookery.onfail=shell) onfail=${word#*=} ;;
    rookery.onfail-wait=*) onfail_wait=$(seconds "${word#*=}" 30) ;;
    rookery.network-wait=*) network_wait=$(seconds "${word#*=}" 120) ;;
    esac
  done
  set +f
}

seconds() { # TEXT OTHERWISE: the command line comes from the network
  case $1 in '' | *[!0-9]* | ?????*) echo "$2" ;; *) echo "$1" ;; esac
}

# A processor without RDRAND (QEMU's default one) gives the kernel no randomness to start with. Whoever polls /dev/random then waits
# for ever, as a static program does that finds no getrandom; a read makes the kernel gather some from its own jitter, in a second.
gather_entropy() { dd if=/dev/random of=/dev/null bs=1 count=1 2> /dev/null & }

# Drivers uncover devices that want drivers (a bus, then what is on it), so this is repeated until nothing new appears.
load_modules() {
  [ -e /run/rookery/aliases ] || echo none > /run/rookery/aliases # to busybox an empty list of patterns matches everything
  for _ in 1 2 3 4 5 6; do
    # of what every device calls itself, what was not asked for before: modprobe reads its tables anew for each
    cat /sys/bus/*/devices/*/modalias 2> /dev/null | grep -E '^(pci|virtio|usb|scsi|hid|vmbus|xen|mmc|platform):' |
      sort -u | grep -vxFf /run/rookery/aliases > /run/rookery/new-aliases || break
    cat /run/rookery/new-aliases >> /run/rookery/aliases
    xargs modprobe -q -a < /run/rookery/new-aliases 2> /dev/null
  done
}

# The card that the firmware used, because it is the one with a cable to the boot server. Without BOOTIF: the first with a link.
find_card() {
  if [ -n "$bootif" ]; then
    rookery-agent bootif --wait 0 2> /run/rookery/bootif.log
    return
  fi
  for path in /sys/class/net/*; do
    [ -e "$path/device" ] || continue
    ip link set "${path##*/}" up
    if [ "$(cat "$path/carrier" 2> /dev/null)" = 1 ]; then
      echo "${path##*/}"
      return
    fi
  done
}

bring_up_network() {
  ip link set lo up
  deadline=$(($(date +%s) + network_wait))
  until card=$(find_card) && [ -n "$card" ]; do
    if [ "$(date +%s)" -ge $deadline ]; then
      cat /run/rookery/bootif.log > /dev/console 2> /dev/null
      fail "no network card ${bootif:-with a link} appeared within $network_wait s; there is: $(ls /sys/class/net | tr '\n' ' ')"
    fi
    sleep 0.2
    load_modules
  done
  address=$(cat "/sys/class/net/$card/address")

  ip link set "$card" up
  deadline=$(($(date +%s) + network_wait))
  until [ "$(cat "/sys/class/net/$card/carrier" 2> /dev/null)" = 1 ]; do
    [ "$(date +%s)" -lt $deadline ] || fail "$card ($address) has had no link for $network_wait s: is its cable plugged in?"
    sleep 0.1
  done

  # Stays and renews the lease: a fetch may take longer than a lease lasts. It asks in rounds, as a switch may keep a fresh link
  # closed for half a minute (spanning tree).
  deadline=$(($(date +%s) + network_wait))
  until udhcpc -i "$card" -n -t 4 -T 2 -A 2 -p /run/rookery/udhcpc.pid -s /etc/udhcpc.sh > /run/rookery/udhcpc.log 2>&1; do
    [ "$(date +%s)" -lt $deadline ] || fail "$card ($address) has a link, but no DHCP server has answered for $network_wait s: is rookery-dhcpd running, and on this network?"
    say "$card ($address) has a link, still asking for an address"
  done
  say "$card ($address) is $(cat /run/rookery/address)"
}

# Controllers look for their disks in their own time. Without any the agent says what it sees.
wait_for_disk() {
  for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    load_modules
    for disk in /sys/block/*/device; do
      case $disk in */sr[0-9]*/device | *'*'*) ;; *) return ;; esac
    done
    sleep 0.5
  done
}

prepare_disk() {
  wait_for_disk
  rookery-agent disk apply --spec /etc/rookery/layout.json
  status=$?
  case $status in
  0) return ;;
  77) sentence="the disk has not the layout that this site requires, and was left as it is (the reason stands above)" ;;
  *) sentence="the disk could not be given the layout that this site requires (the reason stands above)" ;;
  esac
  if [ $status = 77 ] && [ $onfail != shell ] && [ "$(cat /run/rookery/on-refuse 2> /dev/null)" = halt ]; then
    say "$sentence"
    wait_for_a_person
    onfail_wait=0
  fi
  fail "$sentence"
}

# Line by line, as the kernel's terminals give what is typed. A console that can't be read from is none that somebody types on.
wait_for_a_person() {
  say "this machine stays as it is; Enter, on any console, lets it $onfail"
  for console in $(consoles); do
    { read -r _ < /dev/$console && : > /run/rookery/enter; } 2> /dev/null &
  done
  until [ -e /run/rookery/enter ]; do sleep 1; done
}

mount_filesystems() {
  mount -t tmpfs -o mode=755 tmpfs $root || fail_reported mount "cannot mount a tmpfs for /"
  device='' tries=0
  until device=$(findfs LABEL=rookery-nix 2> /dev/null) && [ -b "$device" ]; do
    tries=$((tries + 1))
    [ $tries -lt 100 ] || fail_reported mount "no file system labelled rookery-nix appeared within 20 s"
    sleep 0.2
  done
  # 1: errors corrected; 2: corrected too, and a reboot is only needed where the file system was mounted
  e2fsck -p "$device" > /run/rookery/e2fsck.log 2>&1
  [ $? -lt 4 ] || fail_reported mount "e2fsck gave $device up: $(tail -n 1 /run/rookery/e2fsck.log)"
  mkdir $root/nix
  mount -t ext4 -o noatime "$device" $root/nix || fail_reported mount "cannot mount $device on /nix"
}

# The agent says what to hand over to: what was chosen, or, without a server, what this disk has.
fetch() {
  rookery-agent fetch --root $root --via "$via" ||
    fail "the generation could not be brought to this disk (the reason stands above)"
  if [ -s /run/rookery/init ]; then init=$(cat /run/rookery/init); fi
}

check_init() {
  case $init in
  /nix/store/*) ;;
  *) fail_reported activate "there is no init=/nix/store/... to hand over to: the menu entry is broken" ;;
  esac
  [ -e "$root$init" ] || fail_reported activate "$init is not on the disk, although it was fetched"
}

# Stage 2 begins with an untouched card, as NixOS' flushBeforeStage2 leaves it: networkd asks for the same lease again (same client
# identifier), and udev may rename the card.
leave_network() {
  kill "$(cat /run/rookery/udhcpc.pid)" 2> /dev/null
  ip addr flush dev "$card"
  ip link set "$card" down
}

hand_over() {
  report activate started
  leave_network
  say "hand-over to $init"
  for directory in proc sys dev run; do mkdir -p $root/$directory; done
  busybox=/bin/busybox # once /proc is moved, applets start only by their file's name
  for directory in dev sys run proc; do $busybox mount --move /$directory $root/$directory; done
  exec $busybox switch_root $root "$init"
}

via=$(cat /etc/rookery/via)
if [ "$via" = squashfs ]; then . /etc/rookery/squashfs.sh; fi

mount_kernel_filesystems
read_command_line
say "start"
gather_entropy
load_modules
bring_up_network
report network ok
prepare_disk
mount_filesystems
report mount ok
fetch
check_init
hand_over
