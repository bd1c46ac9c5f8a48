# Sourced by ./dev: installs what a command needs, on Debian 12 or newer, as root. Each need_* is quick when nothing is missing.

export HOME=${HOME:-/root}
DROVER_CACHE=${DROVER_CACHE:-$HOME/.cache/drover}
export DROVER_CACHE
export PATH="$DROVER_CACHE/tools/bin:$PATH"

BUILD_PACKAGES="bazel-bootstrap g++ pkg-config libabsl-dev libgrpc++-dev libprotobuf-dev protobuf-compiler
  protobuf-compiler-grpc libgmock-dev libgtest-dev libbenchmark-dev prometheus-cpp-dev libseccomp-dev libsqlite3-dev nlohmann-json3-dev
  python3 git ca-certificates"
MACHINE_PACKAGES="qemu-system-x86 busybox-static cpio lz4 xz-utils zstd jq sqlite3"
LINT_PACKAGES="clang clang-format clang-tidy libclang-rt-14-dev llvm npm"
GRPCURL_VERSION=v1.9.1

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }

die() {
  echo "dev: $*" >&2
  exit 1
}

installed() { dpkg-query -W -f '${Status}\n' "$1" 2>/dev/null | grep -q '^install ok installed$'; }

# Runs a command up to three times: package mirrors fail now and then.
retry() {
  local attempt
  for attempt in 1 2 3; do
    "$@" && return 0
    sleep "$attempt"
  done
  return 1
}

need_packages() {
  local missing=() package
  for package in "$@"; do installed "$package" || missing+=("$package"); done
  [ ${#missing[@]} -eq 0 ] && return 0
  [ "$(id -u)" -eq 0 ] || die "missing packages: ${missing[*]}; run as root, or install them: apt-get install ${missing[*]}"
  say "installing ${missing[*]}"
  retry apt-get update -qq >&2 || die "apt-get update failed"
  retry env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2 ||
    die "apt-get install failed"
}

need_build() {
  mkdir -p "$DROVER_CACHE"
  # shellcheck disable=SC2086
  need_packages $BUILD_PACKAGES
}

# QEMU and the Debian kernel that the emulated machine boots. Without them that tier is skipped, loudly.
need_machine() {
  # shellcheck disable=SC2086
  need_packages $MACHINE_PACKAGES
  e2e/machine/fetch_kernel.sh || say "no kernel for the emulated machine: its tests will be skipped"
}

need_lint() {
  # shellcheck disable=SC2086
  need_packages $LINT_PACKAGES
  if [ ! -x "$DROVER_CACHE/tools/bin/buildifier" ]; then
    say "installing buildifier"
    retry npm install --silent --no-save --prefix "$DROVER_CACHE/tools/npm" @bazel/buildifier@8.2.1 >&2 || return 0
    mkdir -p "$DROVER_CACHE/tools/bin"
    ln -sf ../npm/node_modules/.bin/buildifier "$DROVER_CACHE/tools/bin/buildifier"
  fi
}

# grpcurl, for the tests that use it. Without it they are skipped, loudly.
need_grpcurl() {
  command -v grpcurl >/dev/null && return 0
  command -v go >/dev/null || need_packages golang-go
  say "building grpcurl $GRPCURL_VERSION"
  GOBIN="$DROVER_CACHE/tools/bin" GOFLAGS=-mod=mod retry go install \
    "github.com/fullstorydev/grpcurl/cmd/grpcurl@$GRPCURL_VERSION" >&2 ||
    say "grpcurl could not be built: its tests will be skipped"
}
