#!/usr/bin/env bash
# A container engine for the tests on a Debian machine that has none: `engine.sh up` installs and starts one, as root, in a network
# namespace of its own so that the machine's network stays as it was, makes a stand-in for the base image if none can be pulled,
# and fetches wheels for an image that is built without a network. `engine.sh env` says where it listens, `engine.sh down` ends it.
set -euo pipefail
cd "$(dirname "$0")/../.."
STATE=${FEDSIM_ENGINE:-${TMPDIR:-/tmp}/fedsim-engine}
SPACE=fedsim-engine
export DOCKER_HOST=unix://$STATE/docker.sock DEBIAN_FRONTEND=noninteractive

up() {
    mkdir -p "$STATE"
    if ! { command -v dockerd && command -v docker-compose && command -v mmdebstrap; } >/dev/null; then
        { apt-get update -q && apt-get install -y -q --no-install-recommends --no-upgrade \
            docker.io docker-compose mmdebstrap iptables; } >"$STATE/apt.log" 2>&1
    fi
    if ! docker version >/dev/null 2>&1; then
        [ -e /run/netns/$SPACE ] || ip netns add $SPACE
        ip -n $SPACE link set lo up
        # not "ip netns exec", which hides the control groups under a /sys of its own
        setsid nsenter --net=/run/netns/$SPACE dockerd --data-root "$STATE/data" --exec-root "$STATE/exec" \
            --pidfile "$STATE/docker.pid" -H "$DOCKER_HOST" >"$STATE/dockerd.log" 2>&1 </dev/null &
        for _ in $(seq 300); do docker version >/dev/null 2>&1 && break || sleep 0.1; done
        docker version >/dev/null
    fi
    base=$(sed -n 's/^ARG BASE=//p' docker/Dockerfile)
    if ! docker image inspect python:3.11-slim >/dev/null 2>&1 && ! docker pull -q "$base" >/dev/null 2>&1; then
        mmdebstrap --variant=minbase --include=python3,python3-venv,ca-certificates \
            --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
            --customize-hook='chroot "$1" python3 -m venv /usr/local' \
            bookworm "$STATE/base.tar" /etc/apt/sources.list.d/debian.sources >"$STATE/mmdebstrap.log" 2>&1
        docker import -c 'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin' -c 'ENV LANG=C.UTF-8' \
            "$STATE/base.tar" python:3.11-slim >/dev/null
        rm "$STATE/base.tar"
    fi
    if [ ! -d docker/wheelhouse ]; then # what the image installs, for the Python of the base image, with this machine's pip
        rm -rf "$STATE/wheels"
        sed 's/^torch==[0-9.]*/&+cpu/' docker/requirements.txt >"$STATE/requirements.txt" # that for CUDA is large
        fetch="python3 -m pip download -q --only-binary :all: --python-version 3.11 --no-deps --require-hashes --dest $STATE/wheels"
        $fetch -r "$STATE/requirements.txt" >"$STATE/pip.log" 2>&1 ||
            $fetch -r docker/requirements.txt -r docker/cuda.txt >>"$STATE/pip.log" 2>&1
        mv "$STATE/wheels" docker/wheelhouse
    fi
}

down() {
    if docker version >/dev/null 2>&1; then
        for container in $(docker ps -aq); do docker rm -f "$container" >/dev/null; done
    fi
    pid=$(cat "$STATE/docker.pid" 2>/dev/null || true)
    if [ -n "$pid" ] && grep -qa dockerd "/proc/$pid/cmdline" 2>/dev/null; then
        kill "$pid"
        for _ in $(seq 150); do [ -e "/proc/$pid" ] && sleep 0.1 || break; done
    fi
    if [ -e /run/netns/$SPACE ]; then ip netns del $SPACE; fi
}

case ${1:-} in
    up | down) "$1" ;;
    env) echo "export DOCKER_HOST=$DOCKER_HOST" ;;
    *) sed -n '2,4s/^# //p' "$0" && exit 2 ;;
esac
