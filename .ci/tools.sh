#!/usr/bin/env bash
# Installs the real programs that the tests drive: Go ones into .tools/bin with everything they cache under .tools, the
# OpenID provider from npm into .tools/node, Debian ones through apt. Idempotent: what is there in the pinned version is skipped. Fails loudly.
# With --soak also those that only the long forms of tests drive.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
export GOBIN="$root/.tools/bin"
export GOPATH="$root/.tools/go"
export GOMODCACHE="$root/.tools/go/pkg/mod"
export GOCACHE="$root/.tools/go/build"
export GOTMPDIR="$root/.tools/go/tmp"
export GOFLAGS="-modcacherw -buildvcs=false -trimpath"
export CGO_ENABLED=0
# Nobody debugs them: without what a debugger needs, and with less care for memory, they take two thirds of the time.
export GOGC=200
bare=("-ldflags=-s -w" -gcflags=all=-dwarf=false)
RUNTIME_SPEC=v1.2.1

# program, package, version
go_programs=(
    "crane github.com/google/go-containerregistry/cmd/crane v0.22.1"
    "oras oras.land/oras/cmd/oras v1.3.6"
    "regctl github.com/regclient/regclient/cmd/regctl v0.11.7"
    "helm helm.sh/helm/v3/cmd/helm v3.22.0"
    "registry github.com/distribution/distribution/v3/cmd/registry v3.1.1"
    "minio github.com/minio/minio v0.0.0-20260212201848-7aac2a2c5b7c"
    "cmd github.com/compose-spec/compose-go/v2/cmd v2.16.2"
    "cosign github.com/sigstore/cosign/v3/cmd/cosign v3.1.3"
    "conformance github.com/opencontainers/distribution-spec/conformance v0.0.0-20260831232431-97274622c111"
)
if [ "${1-}" = --soak ]; then
    go_programs+=("versitygw github.com/versity/versitygw/cmd/versitygw v1.8.0")
fi
# program, package, version; another version of one of the above, under a name of its own
go_others=(
    "cosign2 github.com/sigstore/cosign/v2/cmd/cosign v2.6.5"
)
# program, Debian package
debian_programs=(
    "skopeo skopeo"
    "buildah buildah"
    "podman podman"
    "umoci umoci"
    "bsdtar libarchive-tools"
    "zstd zstd"
    "lz4 lz4"
    "chromium chromium"
    "chromedriver chromium-driver"
    "haproxy haproxy"
    "nginx nginx-light"
    "ip iproute2"
    "pg_ctlcluster postgresql"
    "systemd-analyze systemd"
    "curl curl"
    "pgrep procps"
    "unshare util-linux"
    "openssl openssl"
    "cc gcc"
    "cargo cargo-web"
    "busybox busybox-static"
    "crun crun"
    "bwrap bubblewrap"
)

fail() {
    echo "tools.sh: $*" >&2
    exit 1
}

installed_version() { # PROGRAM: the module version that the binary in .tools/bin was built from, or nothing
    [ -x "$GOBIN/$1" ] || return 0
    go version -m "$GOBIN/$1" | awk '$1 == "mod" { print $3 }'
}

command -v go >/dev/null || fail "go is required (1.24 or newer) and is not on PATH"
mkdir -p "$GOBIN" "$GOTMPDIR"
for line in "${go_programs[@]}"; do
    read -r program package version <<<"$line"
    if [ "$(installed_version "$program")" != "$version" ]; then
        go install "${bare[@]}" "$package@$version" || fail "cannot install $program ($package@$version)"
        [ "$(installed_version "$program")" = "$version" ] || fail "$program was built, but is not $version"
    fi
    printf '%-14s %s\n' "$program" "$version"
done

for line in "${go_others[@]}"; do
    read -r program package version <<<"$line"
    if [ "$(installed_version "$program")" != "$version" ]; then
        mkdir -p "$GOTMPDIR/bin"
        GOBIN="$GOTMPDIR/bin" go install "${bare[@]}" "$package@$version" || fail "cannot install $program ($package@$version)"
        mv "$GOTMPDIR/bin/$(basename "$package")" "$GOBIN/$program"
        [ "$(installed_version "$program")" = "$version" ] || fail "$program was built, but is not $version"
    fi
    printf '%-14s %s\n' "$program" "$version"
done

# A program of the tests' own around the library of the Notary Project, whose command is no module that can be installed.
helper="$root/plugins/drift-sign-notation/tests/notation_helper"
(cd "$helper" && go build "${bare[@]}" -o "$GOBIN/notation-helper" .) || fail "cannot build notation-helper"
printf '%-14s %s\n' notation-helper "$(awk '$1 == "github.com/notaryproject/notation-go" { print $2 }' "$helper/go.mod")"

# A program of the tests' own around quic-go: a client of HTTP/3, also for clients that speak HTTP/1.1 alone.
gateway="$root/plugins/drift-quic-aioquic/tests/gateway"
(cd "$gateway" && go build "${bare[@]}" -o "$GOBIN/quic-gateway" .) || fail "cannot build quic-gateway"
printf '%-14s %s\n' quic-gateway "$(awk '/quic-go\/quic-go / { print $NF }' "$gateway/go.mod")"

# The schemas of what a container runtime is told.
go mod download "github.com/opencontainers/runtime-spec@$RUNTIME_SPEC" || fail "cannot fetch the runtime specification"
printf '%-14s %s\n' runtime-spec "$RUNTIME_SPEC"

command -v npm >/dev/null || fail "npm, of Node.js 20 or newer, is required and is not on PATH"
from_npm() { # PROGRAM FOLDER: installs what the lock file in FOLDER names below .tools/node/PROGRAM, and shows its version
    local modules="$root/.tools/node/$1"
    if [ ! -d "$modules/node_modules/$1" ] || ! cmp -s "$2/package-lock.json" "$modules/package-lock.json"; then
        mkdir -p "$modules"
        cp "$2"/package.json "$2"/package-lock.json "$modules"
        npm ci --prefix "$modules" --cache "$root/.tools/node/cache" --ignore-scripts --no-audit --no-fund --silent \
            || fail "cannot install $1"
    fi
    printf '%-14s %s\n' "$1" "$(node -p "require('$modules/node_modules/$1/package.json').version")"
}
from_npm oidc-provider "$root/plugins/drift-auth-oidc/tests/provider"
from_npm axe-core "$root/plugins/drift-ui/tests/axe"

as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
missing=()
for line in "${debian_programs[@]}"; do
    read -r program package <<<"$line"
    command -v "$program" >/dev/null || missing+=("$package")
done
if [ "${#missing[@]}" -gt 0 ]; then
    command -v apt-get >/dev/null || fail "${missing[*]}: not installed, and there is no apt-get here"
    if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
        fail "${missing[*]}: not installed; run as root or install sudo"
    fi
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq update || fail "apt-get update failed"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends "${missing[@]}" \
        || fail "cannot install ${missing[*]}"
fi

# Of Prometheus only what checks its files: the package itself would start a service.
if [ ! -x "$GOBIN/promtool" ]; then
    command -v apt-get >/dev/null || fail "promtool: not installed, and there is no apt-get here"
    unpacked="$root/.tools/prometheus"
    mkdir -p "$unpacked"
    # What lists of packages there are may be too old to fetch by, or none.
    (cd "$unpacked" && { apt-get -qq download prometheus || { "${as_root[@]}" apt-get -qq update && apt-get -qq download prometheus; }; }) \
        || fail "cannot fetch prometheus"
    dpkg --extract "$unpacked"/prometheus_*.deb "$unpacked" || fail "cannot unpack prometheus"
    cp "$unpacked/usr/bin/promtool" "$GOBIN/promtool"
    rm -r "$unpacked"
fi
"$GOBIN/promtool" --version | head -n 1

for line in "${debian_programs[@]}"; do
    read -r program package <<<"$line"
    command -v "$program" >/dev/null || fail "$program is still missing"
    printf '%-14s %s\n' "$program" "$(dpkg-query --show --showformat '${Version}' "$package" 2>/dev/null || echo 'not from Debian')"
done
