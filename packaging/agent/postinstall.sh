#!/bin/sh
# Users and modes; what runs already goes on with the new version; nothing is enabled or started anew.
set -e
if command -v systemd-sysusers >/dev/null 2>&1; then
    systemd-sysusers reachmap-agent.conf
elif ! getent passwd reachmap-agent >/dev/null; then
    useradd --system --home-dir /var/lib/reachmap-agent --shell /usr/sbin/nologin reachmap-agent
fi
if command -v systemd-tmpfiles >/dev/null 2>&1; then
    systemd-tmpfiles --create reachmap-agent.conf || true
fi
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || true
    systemctl try-restart reachmap-agent.service || true
fi
