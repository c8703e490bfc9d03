#!/bin/sh
# deb says "remove", rpm says 0, when it goes for good; an upgrade leaves the service to postinstall.
set -e
case "$1" in
    remove | 0)
        if [ -d /run/systemd/system ]; then
            systemctl disable --now reachmap-agent.service || true
        fi
        ;;
esac
