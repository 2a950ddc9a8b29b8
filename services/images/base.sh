#!/bin/sh
# Makes the image that the build starts from out of Debian's packages alone, where no registry of
# images is reachable: base.sh [NAME]. Needs root, debootstrap, buildah.
set -eu
name=${1:-localhost/davy-debian:bookworm}
for program in debootstrap buildah; do
  command -v "$program" >/dev/null || { echo "error: no $program: apt-get install $program" >&2; exit 69; }
done
if buildah inspect --type image "$name" >/dev/null 2>&1; then exit 0; fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
debootstrap --variant=minbase --include=ca-certificates bookworm "$work/tree" >"$work/log" 2>&1 ||
  { tail -5 "$work/log" >&2; echo "error: debootstrap failed" >&2; exit 69; }
# Updates come from the mirror that debootstrap took, whichever that is.
mirror=$(awk '$1 == "deb" { print $2; exit }' "$work/tree/etc/apt/sources.list")
[ -n "$mirror" ] || { echo "error: debootstrap named no mirror in sources.list" >&2; exit 69; }
cat >"$work/tree/etc/apt/sources.list" <<SOURCES
deb $mirror bookworm main
deb $mirror bookworm-updates main
deb ${mirror%/debian*}/debian-security bookworm-security main
SOURCES
rm -rf "$work"/tree/var/cache/apt/archives/*.deb "$work"/tree/var/lib/apt/lists/*
container=$(buildah from scratch)
buildah add --quiet "$container" "$work/tree" / >/dev/null
buildah commit --quiet --rm "$container" "$name" >/dev/null
