#!/bin/sh
# Run in the image: where the libraries are, who runs it, and where that one may write.
set -eu
find /opt/ekya/lib -name '*.so*' -printf '%h\n' | sort -u > /etc/ld.so.conf.d/ekya.conf
ldconfig
mkdir -p /var/lib/ekya /certs /run/ekya
chown 10001:10001 /var/lib/ekya /certs /run/ekya
echo 'ekya:x:10001:10001::/var/lib/ekya:/usr/sbin/nologin' >> /etc/passwd
echo 'ekya:x:10001:' >> /etc/group
