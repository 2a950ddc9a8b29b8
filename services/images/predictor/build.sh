#!/bin/sh
# The image of a model package with what this machine has: build.sh PACKAGE [option of
# `davy package image`]...
#
# Where Debian's image cannot be had from a registry, one is made of Debian's packages by base.sh.
# SSL_CERT_FILE, UV_CONFIG_FILE and PIP_CONFIG_FILE, where set, are secrets of the build.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
davy=$here/../../../.venv/bin/davy
package=${1:?"name a package: build.sh STORE/NAME/VERSION"}
shift

# A store of its own: the Bento is of the code as it is now.
BENTOML_HOME=$(mktemp -d)
export BENTOML_HOME
trap 'rm -rf "$BENTOML_HOME"' EXIT
# Not through a pipe: its status would be that of what reads, and a failed Bento go unnoticed.
made=$("$davy" package bento "$package")
tag=$(printf '%s\n' "$made" | head -n 1)

for variable in SSL_CERT_FILE:--ca UV_CONFIG_FILE:--uv-config PIP_CONFIG_FILE:--pip-config; do
  eval "file=\${${variable%%:*}:-}"
  # pip takes /dev/null for "read no file".
  if [ -n "$file" ] && [ "$file" != /dev/null ]; then set -- "${variable#*:}" "$file" "$@"; fi
done
if ! docker version >/dev/null 2>&1 && ! podman version >/dev/null 2>&1; then
  # Needs no runtime and no control groups, which a container that builds may not have.
  export BUILDAH_ISOLATION="${BUILDAH_ISOLATION:-chroot}"
  debian=docker.io/library/debian:bookworm-slim
  if ! timeout 120 buildah pull --quiet "$debian" >/dev/null 2>&1; then
    debian=localhost/davy-debian:bookworm
    "$here/base.sh" "$debian"
  fi
  set -- --base "$debian" "$@"
fi
"$davy" package image "$tag" "$@"
