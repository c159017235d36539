# What the scripts of this folder share: the names of an architecture, and what is fetched once
# into target/: Debian's libraries for the target (target/cross) and the linker (target/tools).
# Sourced, not run. Each step that is done leaves a stamp that says of what; it is not done again.
# shellcheck shell=bash
# shellcheck disable=SC2034 # constants for those who source this

# The Debian release whose libraries are linked against and whose Rust is used.
readonly RELEASE=bookworm
# The oldest glibc that the binaries may ask for: that of Debian 11.
readonly GLIBC_MAX=2.31
# libsystemd and what it needs to be loaded. libc6 and libgcc-s1 are for running under an emulator:
# the linker has its own glibc.
readonly SYSROOT_PACKAGES=(libsystemd-dev libsystemd0 libcap2 libgcrypt20 libgpg-error0 liblz4-1
  liblzma5 libzstd1 libc6 libgcc-s1)

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
case $TARGET in /*) ;; *) TARGET=$PWD/$TARGET ;; esac
readonly ROOT TARGET
readonly CROSS=$TARGET/cross TOOLS=$TARGET/tools

fail() {
  printf '%s\n' "cross: $*" >&2
  exit 1
}

say() {
  printf '%s\n' "cross: $*" >&2
}

# names ARCH: sets TRIPLE (Rust's) and GNU (Debian's) for one of Debian's architectures.
names() {
  case ${1:-} in
    amd64) TRIPLE=x86_64-unknown-linux-gnu GNU=x86_64-linux-gnu ;;
    arm64) TRIPLE=aarch64-unknown-linux-gnu GNU=aarch64-linux-gnu ;;
    armhf) TRIPLE=armv7-unknown-linux-gnueabihf GNU=arm-linux-gnueabihf ;;
    *) fail "there is no architecture '${1:-}': name amd64, arm64 or armhf." ;;
  esac
  readonly ARCH=$1 TRIPLE GNU
  readonly SYSROOT=$CROSS/$ARCH
}

# done_already STAMP TEXT: whether this step was done, and of the same things.
done_already() {
  [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]
}

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    fail "sudo is missing: run this as root, then start again: $*"
  fi
}

# apt_install PACKAGE...: installs what is missing on this machine.
apt_install() {
  local package missing=()
  for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
      missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing: ${missing[*]}"
  local get=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600)
  as_root "${get[@]}" update >&2
  as_root "${get[@]}" install -y --no-install-recommends "${missing[@]}" >&2 ||
    fail "apt-get could not install ${missing[*]}: mend what it says above, then start again."
}

# The machine's own mirrors of Debian, as lines of a sources.list for $RELEASE: main and, with
# "security", the security updates. The machine itself may run another release.
apt_sources() {
  local format="\$(ORIGIN) \$(RELEASE) \$(COMPONENT) \$(REPO_URI)"
  local key=/usr/share/keyrings/debian-archive-keyring.gpg
  [ -f "$key" ] || fail "$key is missing: apt-get install debian-archive-keyring."
  apt-get indextargets --format "$format" 'Identifier: Packages' |
    awk -v release="$RELEASE" -v key="$key" -v want="${1:-main}" '
      $1 != "Debian" || $3 != "main" { next }
      $2 ~ /-security$/ { kind = "security" }
      $2 !~ /-/ { kind = "main" }
      $2 ~ /-/ && $2 !~ /-security$/ { next }
      seen[kind]++ || (kind == "security" && want != "security") { next }
      { printf "deb [signed-by=%s] %s %s main\n", key, $4,
          release (kind == "security" ? "-security" : "") }'
}

# apt_fetch ARCH KIND FOLDER PACKAGE...: downloads packages of another architecture, verified by apt
# as usual, and unpacks them into FOLDER. The machine's own apt knows nothing of it.
apt_fetch() {
  local arch=$1 kind=$2 folder=$3
  shift 3
  local state=$CROSS/apt/$arch-$kind
  rm -rf "$state" "$folder"
  mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$state/packages"
  mkdir -p "$folder/usr/lib"
  # As on a running Debian. Not only for order: below two folders, of which one has no twin on this
  # machine, ld.so under an emulator gives the first up before it has found everything in it.
  ln -s usr/lib "$folder/lib"
  apt_sources "$kind" >"$state/sources.list"
  [ -s "$state/sources.list" ] ||
    fail "apt names no mirror of Debian: run 'apt-get update' as root, then start again."
  local options=(-qq -o "APT::Architecture=$arch" -o "APT::Architectures::=$arch"
    -o "Dir::Etc::SourceList=$state/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o "Dir::State::Lists=$state/lists" -o "Dir::Cache=$state/cache" -o Dir::State::status=/dev/null
    -o APT::Sandbox::User= -o Acquire::Languages=none -o Acquire::Retries=3)
  say "fetching for $arch from Debian $RELEASE: $*"
  (
    cd "$state/packages"
    apt-get "${options[@]}" update && apt-get "${options[@]}" download "$@"
  ) >&2 || fail "Debian's packages for $arch could not be fetched: see above, then start again."
  local package
  for package in "$state"/packages/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink -C "$folder"
  done
  rm -rf "$state"
}

# Debian's Rust: rustup's standard libraries do not fit to it, and it has those for other machines.
prepare_rust() {
  command -v apt-get >/dev/null ||
    fail "this needs Debian 12 ($RELEASE); cross/README.md has the rustup way."
  apt_install rustc-web cargo-web rust-web-src pkg-config binutils file python3-venv
  RUST_VERSION=$(dpkg-query -W -f '${Version}' rustc-web)
  case $RUST_VERSION in
    *deb12*) ;;
    *) fail "rustc-web $RUST_VERSION is not of Debian 12; cross/README.md has the rustup way." ;;
  esac
  readonly RUST_VERSION
}

prepare_linker() {
  local stamp=$TOOLS/zig.stamp text
  text=$(cat "$ROOT/cross/requirements.txt")
  if ! done_already "$stamp" "$text"; then
    say "fetching the linker into $TOOLS/zig"
    rm -rf "$TOOLS/zig"
    mkdir -p "$TOOLS"
    /usr/bin/python3 -m venv "$TOOLS/zig" >&2
    "$TOOLS/zig/bin/pip" install -q --disable-pip-version-check --require-hashes \
      --only-binary :all: -r "$ROOT/cross/requirements.txt" >&2 ||
      fail "pip could not fetch what cross/requirements.txt names: see above, then start again."
    printf '%s\n' "$text" >"$stamp"
  fi
  ZIG=$(echo "$TOOLS"/zig/lib/python3*/site-packages/ziglang/zig)
  [ -x "$ZIG" ] || fail "$ZIG is not there: remove $TOOLS/zig.stamp, then start again."
  readonly ZIG
}

prepare_sysroot() {
  local stamp=$CROSS/$ARCH.stamp text="$RELEASE ${SYSROOT_PACKAGES[*]}"
  done_already "$stamp" "$text" && return
  apt_fetch "$ARCH" main "$SYSROOT" "${SYSROOT_PACKAGES[@]}"
  printf '%s\n' "$text" >"$stamp"
}

# Debian's standard library for arm64. It has none of this version for armhf in a state that apt
# accepts everywhere: for armhf the library is built from its source.
prepare_std() {
  [ "$ARCH" = arm64 ] || return 0
  local stamp=$CROSS/std-$ARCH.stamp package="libstd-rust-web-dev=$RUST_VERSION"
  done_already "$stamp" "$package" && return
  apt_fetch "$ARCH" security "$CROSS/std-$ARCH" "$package"
  printf '%s\n' "$package" >"$stamp"
}

# Fetches whatever is missing for $ARCH; one process at a time.
prepare() {
  mkdir -p "$CROSS"
  exec 9>"$CROSS/lock"
  flock 9
  prepare_rust
  prepare_linker
  prepare_sysroot
  prepare_std
  exec 9>&-
}
