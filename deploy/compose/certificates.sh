#!/bin/sh
# Makes ./certificates beside this file: an authority (ca.pem) and one certificate for the three servers (server.pem).
# Their names are the arguments; without any: nats-1 nats-2 nats-3.
set -eu
cd "$(dirname "$0")"
[ $# -gt 0 ] || set -- nats-1 nats-2 nats-3
names=""
for name in "$@"; do names="${names:+$names,}DNS:$name"; done
mkdir -p certificates
cd certificates
new="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
openssl req -x509 -days 3650 $new -keyout ca.key -out ca.pem -subj "/CN=AgeZero NATS" \
  -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign
openssl req -x509 -days 825 $new -keyout server.key -out server.pem -subj "/CN=nats" -CA ca.pem -CAkey ca.key -addext "subjectAltName=$names"
chmod 644 server.key # the containers run as another user; on a host of its own: owned by nats, mode 600
echo "made for $names; keep ca.key where no server can read it"
