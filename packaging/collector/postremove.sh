#!/bin/sh
# "purge" is deb's word for: and nothing of it is to be left.
set -e
if [ "$1" = purge ]; then
    rm -rf /var/lib/reachmap-collector /etc/systemd/system/reachmap-collector.service.d
    rmdir --ignore-fail-on-non-empty /etc/reachmap 2>/dev/null || true
    if getent passwd reachmap-collector >/dev/null; then
        userdel reachmap-collector || true
    fi
fi
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || true
fi
