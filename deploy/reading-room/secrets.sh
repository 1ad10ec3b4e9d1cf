#!/usr/bin/env bash
# Draws PostgreSQL's password, once, into two files: each is for the user of the container that reads it. Run as root.
#   bash deploy/reading-room/secrets.sh /etc/r2gengpt
# The API keys beside them (keys.json) come from `r2gengpt keys add`.
set -euo pipefail
place=${1:?a directory}
for name in db_password pgpass; do
	[ ! -e "$place/$name" ] || { echo "$place/$name is there already: PostgreSQL keeps its first password" >&2; exit 2; }
done
umask 077
trap 'rm -f "$place/db_password" "$place/pgpass"' ERR  # both, or none
mkdir -p "$place"
password=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
printf '%s\n' "$password" >"$place/db_password"
printf 'db:5432:verdicts:r2gengpt:%s\n' "$password" >"$place/pgpass"
chown 999:999 "$place/db_password"   # of the image postgres
chown 10001:10001 "$place/pgpass"    # of ours
