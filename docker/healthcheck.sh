#!/bin/bash
# Asks pgweir whether it is alive: exit status 0 if /livez answers 200, else 1.
# Bash alone, because the image has neither curl nor wget.
set -eu

port="${PGWEIR_HTTP_PORT:-9632}"
exec 3<> "/dev/tcp/127.0.0.1/$port"
printf 'GET /livez HTTP/1.1\r\nHost: 127.0.0.1:%s\r\nConnection: close\r\n\r\n' "$port" >&3
IFS=' ' read -r -t 2 _version status _reason <&3 || exit 1
[[ $status == 200 ]]
