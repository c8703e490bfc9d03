#!/bin/sh
# "purge" is deb's word for: and nothing of it is to be left.
set -e
if [ "$1" = purge ]; then
    rm -rf /var/lib/reachmap-agent /etc/systemd/system/reachmap-agent.service.d \
        /etc/reachmap/agent.creds /etc/reachmap/agent.nk /etc/reachmap/bus-ca.pem \
        /etc/reachmap/agent-bus.pem /etc/reachmap/agent-bus.key
    rmdir --ignore-fail-on-non-empty /etc/reachmap 2>/dev/null || true
    if getent passwd reachmap-agent >/dev/null; then
        userdel reachmap-agent || true
    fi
fi
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || true
fi
