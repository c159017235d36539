# Everything one does with this repository. `make` alone lists it.
#
# Each target installs what it needs and does not find: Rust with rustup into your home folder, a C
# compiler, mosquitto and its clients with apt-get (through sudo when you are not root).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help run test check features bench soak crash fuzz cross test-arm deb test-package
.PHONY: reproducible test-deb size rust linker libsystemd broker

# Where rustup puts cargo, and where Debian puts mosquitto.
export PATH := $(HOME)/.cargo/bin:$(PATH):/usr/sbin

CARGO := cargo
# The lowest Rust that builds this; the same as `rust-version` in Cargo.toml.
RUST_MINOR_MIN := 85
# How long `make fuzz` spends on each target, and on which; all when empty.
FUZZ_S := 60
FUZZ_TARGET :=
# How long `make crash` lives through simulated days, and with which it begins; by the clock when
# empty. And how long `make soak` kills the daemon, and then changes its configuration from afar.
CRASH_S := 600
CRASH_SEED :=
KILL_S := 600
# What a build can leave out: docs/features.md.
CONNECTORS := mqtt serial http file tls control
# The test programs that see whether `systemd` and `broker` are there.
BY_DEFAULT := cli config daemon demo features settings supervisor
# Debian's names for what `make cross` builds for.
ARCHES := amd64 arm64 armhf
# Which Debian `make test-deb` boots, and how often it cuts its power: 3 times on amd64 and once on
# each other when empty.
RELEASE := bookworm
ROUNDS :=
# Cargo features, with commas, that are shipped besides the default ones.
export FEATURES := systemd
# Budgets in bytes, from the table of footprints in benches/README.md.
BINARY_BYTES_MAX := 8000000
PACKAGE_BYTES_MAX := 3000000

# $(call need,command,Debian packages,what it is for)
define need
if ! command -v $(1) >/dev/null; then
  echo "$(1) is missing ($(3)); installing: $(2)"
  if ! command -v apt-get >/dev/null; then
    echo "This is not Debian: install $(1) with your package manager, then run make again." >&2
    exit 1
  fi
  as_root=
  if [ "$$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null; then
      echo "sudo is missing: run 'apt-get install $(2)' as root, then run make again." >&2
      exit 1
    fi
    as_root=sudo
  fi
  if ! { $$as_root apt-get update -qq && $$as_root env DEBIAN_FRONTEND=noninteractive \
      apt-get install -y -qq --no-install-recommends $(2); }; then
    echo "apt-get could not install $(2): mend what it says above, then run make again." >&2
    exit 1
  fi
fi
endef

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The development profile: its dependencies are optimised, and without link-time optimisation the
# first build takes a fraction of the release build's time. It is fast enough to try things out.
run: rust linker ## build, then run the quickstart with a broker and a simulated sensor inside
	@$(CARGO) run --locked --features broker -- run config/quickstart.toml

# All of it once, in the build that has everything; then, as it is built by default, what the
# features beyond that reach: the library, the service manager, and what a build says of itself.
test: check broker ## everything that must pass before a change is merged
	@$(CARGO) test --locked --all-features
	$(CARGO) test --locked --lib $(addprefix --test ,$(BY_DEFAULT))

check: rust linker libsystemd ## format, lints, licences
	@$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --all-targets --all-features -- -D warnings
	$(CARGO) clippy --locked --all-targets --no-default-features -- -D warnings
	if command -v cargo-deny >/dev/null; then
	  $(CARGO) deny --locked --offline --all-features check bans licenses sources
	else
	  echo "cargo-deny is not installed: licences are not checked."
	fi

features: rust linker ## each feature alone compiles without a warning; without any, the tests pass
	@for feature in $(CONNECTORS); do
	  echo "only $$feature"
	  $(CARGO) clippy --locked --no-default-features --features "$$feature" -- -D warnings
	done
	$(CARGO) test --locked --no-default-features --lib --test features

bench: rust linker broker ## every benchmark, as one table and target/bench.json
	@if [ ! -d benches ]; then
	  echo "There is no folder benches/ yet: nothing to measure." >&2
	  exit 1
	fi
	MALLOC_ARENA_MAX=2 $(CARGO) bench --locked

soak: rust linker broker ## 50 million events twice; kills, and remote changes, KILL_S seconds each
	@MALLOC_ARENA_MAX=2 $(CARGO) bench --locked --bench soak
	EVENTFLUX_KILL_S=$(KILL_S) $(CARGO) test --locked --test kill -- --nocapture
	EVENTFLUX_SOAK_S=$(KILL_S) $(CARGO) test --locked --test control_soak -- --nocapture

crash: rust linker ## simulated days full of crashes and damage for CRASH_S seconds; each another
	@seed="$(CRASH_SEED)"
	EVENTFLUX_CRASH_S=$(CRASH_S) EVENTFLUX_SEED="$${seed:-$$(date +%s)000000}" \
	  $(CARGO) test --locked --profile crash --test simulation no_day -- --nocapture

fuzz: rust linker ## each fuzz target for FUZZ_S seconds; FUZZ_TARGET=name for one
	@if [ ! -d fuzz/fuzz_targets ]; then
	  echo "There are no fuzz targets: they belong into fuzz/fuzz_targets/, one a decoder." >&2
	  exit 1
	fi
	if ! command -v cargo-fuzz >/dev/null; then
	  echo "cargo-fuzz is missing; run: cargo install --locked cargo-fuzz" >&2
	  exit 1
	fi
	if ! $(CARGO) +nightly --version >/dev/null 2>&1; then
	  echo "cargo-fuzz needs nightly Rust; run: rustup toolchain install nightly" >&2
	  exit 1
	fi
	targets="$(FUZZ_TARGET)"
	for target in $${targets:-$$($(CARGO) +nightly fuzz list)}; do
	  echo "fuzzing $$target for $(FUZZ_S) s"
	  $(CARGO) +nightly fuzz run "$$target" -- -max_total_time=$(FUZZ_S)
	done

cross: ## the release build for ARCHES, which runs with the glibc of Debian 11 and later
	@for arch in $(ARCHES); do
	  echo "building for $$arch"
	  cross/cargo "$$arch" build --release --locked --features "$(FEATURES)"
	done
	cross/floor $(ARCHES)

# The development profile: link-time optimisation of four programs would take longer than they run.
# What is built is emulated: it takes many times as long as in `make test`. The tests of serial
# ports cannot be among these: qemu's emulation of a process has no ioctl TCGETS2, which opens them.
test-arm: broker ## unit tests, cases and a round of kill -9 under qemu, for arm64 and armhf
	@for arch in $(filter-out amd64,$(ARCHES)); do
	  echo "testing for $$arch"
	  cross/emulate "$$arch" cross/cargo "$$arch" test --locked --features "$(FEATURES)" \
	    --no-fail-fast --lib --test cases --test kill
	done

deb: rust ## target/debian/eventflux_<version>_<arch>.deb for ARCHES, each checked, with lintian
	@$(call need,lintian,lintian,reads the packages as a Debian developer would)
	$(call need,readelf,binutils,asks the binaries what they depend on)
	$(call need,systemd-analyze,systemd,checks the service and its hardening)
	for arch in $(ARCHES); do
	  packaging/build "$$arch"
	done

# The package of this machine's architecture. What systemd does with it is `make test-deb`.
test-package: ## what dpkg does with the package on Debian 11, 12 and 13, not booted
	@$(call need,mmdebstrap,mmdebstrap debian-archive-keyring,makes a minimal Debian)
	as_root=; [ "$$(id -u)" = 0 ] || as_root=sudo
	version=$$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
	$$as_root packaging/test "target/debian/eventflux_$${version}_$$(dpkg --print-architecture).deb"

reproducible: ## whether the last commit, built in another folder, gives the same packages
	@packaging/reproducible $(ARCHES)

# The images stay in target/booted, with the logs. What systemd keeps from a service by number of the
# system call differs between architectures, and only a real kernel of each shows it.
test-deb: deb broker ## the packages on Debian booted in qemu for ARCHES, and power cuts
	@$(call need,python3,python3-minimal,runs the test)
	$(call need,mmdebstrap,mmdebstrap arch-test,makes the Debian that is booted)
	$(call need,depmod,kmod,lists what kernel modules need)
	$(call need,cpio,cpio,packs the initrd)
	$(call need,mke2fs,e2fsprogs,makes the disk)
	$(call need,fakeroot,fakeroot,makes files of root in the disk)
	version=$$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
	packages=()
	for arch in $(ARCHES); do
	  case $$arch in
	    amd64) $(call need,qemu-system-x86_64,qemu-system-x86,boots amd64) ;;
	    arm64) $(call need,qemu-system-aarch64,qemu-system-arm,boots arm64) ;;
	    *) $(call need,qemu-system-arm,qemu-system-arm,boots armhf) ;;
	  esac
	  if [ "$$arch" != "$$(dpkg --print-architecture)" ]; then
	    $(call need,update-binfmts,binfmt-support qemu-user-static,installs packages of $$arch)
	  fi
	  packages+=(--package "$$arch=target/debian/eventflux_$${version}_$$arch.deb")
	done
	python3 -B tests/booted/run.py target/booted --release $(RELEASE) \
	  $(addprefix --rounds ,$(ROUNDS)) "$${packages[@]}"

size: cross ## the binaries of `make cross` and the packages of `make deb` against their budgets
	@failed=0
	row() { # what, file, budget, how it is made
	  if [ ! -f "$$2" ]; then
	    echo "$$1 is not there: $$4 makes it." >&2
	    failed=1
	    return
	  fi
	  local bytes verdict=ok
	  bytes=$$(stat -c %s "$$2")
	  if [ "$$bytes" -gt "$$3" ]; then verdict="TOO LARGE"; failed=1; fi
	  printf '%-32s %9d B  budget %9d B  %s\n' "$$1" "$$bytes" "$$3" "$$verdict"
	}
	target=$${CARGO_TARGET_DIR:-target}
	version=$$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
	for arch in $(ARCHES); do
	  triple=$$(. cross/lib.sh; names "$$arch"; echo "$$TRIPLE")
	  row "binary, $${triple%%-*}" "$$target/$$triple/release/eventflux" $(BINARY_BYTES_MAX) \
	    "make cross ARCHES=$$arch"
	done
	for arch in $(ARCHES); do
	  package=eventflux_$${version}_$$arch.deb
	  row "$$package" "$$target/debian/$$package" $(PACKAGE_BYTES_MAX) "make deb ARCHES=$$arch"
	done
	exit $$failed

rust:
	@minor=$$($(CARGO) --version 2>/dev/null | sed -n 's/^cargo 1\.\([0-9]*\).*/\1/p' || true)
	if [ "$${minor:-0}" -lt $(RUST_MINOR_MIN) ]; then
	  echo "Rust 1.$(RUST_MINOR_MIN) or later is missing; installing it with rustup."
	  $(call need,curl,curl ca-certificates,downloads rustup)
	  if ! curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs \
	      | RUSTUP_INIT_SKIP_PATH_CHECK=yes sh -s -- -y --profile minimal -c clippy -c rustfmt; then
	    echo "rustup could not be installed: see https://rustup.rs, then run make again." >&2
	    exit 1
	  fi
	fi
	if ! $(CARGO) fmt --version >/dev/null 2>&1 || ! $(CARGO) clippy --version >/dev/null 2>&1; then
	  if ! rustup component add rustfmt clippy; then
	    echo "cargo fmt and cargo clippy are missing: install Rust with rustup." >&2
	    exit 1
	  fi
	fi

# zstd and ring are C.
linker:
	@$(call need,cc,gcc libc6-dev,links the program and compiles the C inside of two crates)

# What the package carries and a build by default does not: see the feature `systemd`.
libsystemd:
	@if ! pkg-config --exists libsystemd 2>/dev/null; then
	  $(call need,libsystemd,pkg-config libsystemd-dev,the daemon speaks to systemd and its journal)
	fi

# The tests start brokers of their own on free ports. The package's service would sit on 1883, where
# `make run` listens, so it is switched off when it was us who installed it.
broker:
	@had=$$(command -v mosquitto || true)
	$(call need,mosquitto,mosquitto,the tests talk to a real MQTT broker)
	$(call need,mosquitto_pub,mosquitto-clients,the tests publish and subscribe with it)
	if [ -z "$$had" ] && [ -d /run/systemd/system ]; then
	  as_root=; [ "$$(id -u)" = 0 ] || as_root=sudo
	  $$as_root systemctl disable --now mosquitto.service || true
	fi
