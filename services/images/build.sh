#!/bin/sh
# An image with what this machine has: build.sh NAME [option]..., or with a model package in it
# build.sh predictor STORE/NAME/VERSION [option]... Options are those of `davy package image`;
# --variant beside them for what has variants.
#
# Where Debian's image cannot be had from a registry, one is made of Debian's packages by base.sh.
# SSL_CERT_FILE, UV_CONFIG_FILE and PIP_CONFIG_FILE, where set, are secrets of the build.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
programs=$here/../../.venv/bin
image=${1:?"name an image: build.sh operator, or build.sh predictor STORE/NAME/VERSION"}
shift
tag=
case "$image:${1:--}" in
predictor:-*) ;;
predictor:*)
  package=$1
  shift
  # A store of its own: the Bento is of the code as it is now.
  BENTOML_HOME=$(mktemp -d)
  export BENTOML_HOME
  trap 'rm -rf "$BENTOML_HOME"' EXIT
  # Not through a pipe: its status would be that of what reads, and a failed Bento go unnoticed.
  made=$("$programs/davy" package bento "$package")
  tag=$(printf '%s\n' "$made" | head -n 1)
  ;;
esac

for variable in SSL_CERT_FILE:--ca UV_CONFIG_FILE:--uv-config PIP_CONFIG_FILE:--pip-config; do
  eval "file=\${${variable%%:*}:-}"
  # pip takes /dev/null for "read no file".
  if [ -n "$file" ] && [ "$file" != /dev/null ]; then set -- "${variable#*:}" "$file" "$@"; fi
done
if ! docker version >/dev/null 2>&1 && ! podman version >/dev/null 2>&1; then
  # Needs no runtime and no control groups, which a container that builds may not have.
  export BUILDAH_ISOLATION="${BUILDAH_ISOLATION:-chroot}"
  debian=debian:bookworm-slim
  if ! buildah inspect --type image "$debian" >/dev/null 2>&1 &&
    ! timeout 120 buildah pull --quiet "$debian" >/dev/null 2>&1; then
    debian=localhost/davy-debian:bookworm
    "$here/base.sh" "$debian"
  fi
  set -- --base "$debian" "$@"
fi
if [ -n "$tag" ]; then
  "$programs/davy" package image "$tag" "$@"
else
  "$programs/python" -m davy.packaging.component "$image" "$@"
fi
