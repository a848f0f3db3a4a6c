#!/bin/busybox sh
# What udhcpc calls when its lease changes: $1 is what happened, the lease is in the environment.
case $1 in
deconfig)
  ip addr flush dev "$interface"
  ip link set "$interface" up
  ;;
bound | renew)
  ip addr replace "$ip/${mask:-24}" dev "$interface"
  [ -z "$mtu" ] || ip link set "$interface" mtu "$mtu"
  for gateway in $router; do
    ip route replace default via "$gateway" dev "$interface"
    break # the first is the one that the server prefers
  done
  for server in $dns; do echo "nameserver $server"; done > /etc/resolv.conf
  echo "$ip/${mask:-24}, leased by $serverid" > /run/rookery/address
  ;;
esac
