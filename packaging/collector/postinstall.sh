#!/bin/sh
# Users and modes; what runs already goes on with the new version; nothing is enabled or started anew.
set -e
if command -v systemd-sysusers >/dev/null 2>&1; then
    systemd-sysusers reachmap-collector.conf
elif ! getent passwd reachmap-collector >/dev/null; then
    useradd --system --home-dir /var/lib/reachmap-collector --shell /usr/sbin/nologin reachmap-collector
fi
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || true
    systemctl try-restart reachmap-collector.service || true
fi
