# libbatpak: build, test and install. `make help` lists the targets. CARGO_TARGET_DIR is honoured.

CARGO ?= cargo
PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include

VERSION := $(shell sed -n 's/^version = "\([0-9.]*\)"$$/\1/p' Cargo.toml | head -n 1)
SOVERSION := $(word 1,$(subst ., ,$(VERSION))).$(word 2,$(subst ., ,$(VERSION)))
SONAME := libbatpak.so.$(SOVERSION)
RELEASE := $(abspath $(or $(CARGO_TARGET_DIR),target)/release)

EXAMPLE_FLAGS := -std=c11 -O2 -Wall -Wextra -pedantic -Werror
EXAMPLE_LINK := -L'$(RELEASE)' -Wl,-rpath,'$(RELEASE)' -lbatpak
# examples-c/01-quickstart.c is built to examples-c/build/quickstart.
EXAMPLE_SOURCES := $(wildcard examples-c/*.c)
example_program = examples-c/build/$(shell basename '$(1)' .c | sed 's/^[0-9]*-//')
EXAMPLES := $(foreach source,$(EXAMPLE_SOURCES),$(call example_program,$(source)))

.PHONY: all library header header-check examples run test test-models test-asan test-asan-library test-valgrind reliability reliability-full \
	bench bench-quick bench-criterion instructions instructions-record install install-check install-strip clean help

all: library build/batpak.pc ## build the release library and its pkg-config file

library: include/batpak.h ## build the release library
	$(CARGO) build --release --locked
	ln -sf libbatpak.so '$(RELEASE)/$(SONAME)'

include/batpak.h:
	@echo 'include/batpak.h is missing; it is committed, and `make header` writes it anew' >&2; exit 1

header: ## write include/batpak.h from src/ffi
	$(CARGO) run --quiet --locked --manifest-path tools/header/Cargo.toml

header-check: ## fail when include/batpak.h differs from src/ffi
	$(CARGO) run --quiet --locked --manifest-path tools/header/Cargo.toml -- --check

examples: $(EXAMPLES) ## build the example programs to examples-c/build

define EXAMPLE_RULE
$(call example_program,$(1)): $(1) include/batpak.h | library
	@mkdir -p examples-c/build
	$$(CC) $$(EXAMPLE_FLAGS) $$(CFLAGS) -Iinclude -o $$@ $(1) $$(LDFLAGS) $$(EXAMPLE_LINK)
endef
$(foreach source,$(EXAMPLE_SOURCES),$(eval $(call EXAMPLE_RULE,$(source))))

run: examples ## import the sample of flights and print the table
	rm -rf build/run-flights
	@mkdir -p build
	./examples-c/build/flights --dir build/run-flights examples-c/flights-sample.csv

test: library install-check test-models ## run all tests: unit, integration, C and C++, installed tree
	$(CARGO) test --locked

test-models: ## the engine's threads under a scheduler that tries interleavings
	RUSTFLAGS='--cfg shuttle' $(CARGO) test --locked --lib --target-dir '$(or $(CARGO_TARGET_DIR),target)/models' row_r15

test-asan: library ## the C and C++ tests with address and undefined-behaviour sanitizers
	C_TEST_FLAGS='-fsanitize=address,undefined -fno-sanitize-recover=all -Wno-error' $(CARGO) test --locked --test c_suite

NIGHTLY_TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target)/nightly)
NIGHTLY_HOST = $(shell rustc +nightly -vV 2> /dev/null | sed -n 's/^host: //p')
NIGHTLY_LIBRARY = $(NIGHTLY_TARGET)/$(NIGHTLY_HOST)/debug/libbatpak.so

test-asan-library: ## the library itself under the address sanitizer; needs a nightly compiler and clang
	@if [ -z '$(NIGHTLY_HOST)' ] || ! command -v clang > /dev/null || ! command -v clang++ > /dev/null; then \
		echo 'skipped: there is no nightly compiler, or no clang'; exit 0; \
	fi; \
	set -ex; \
	RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR='$(NIGHTLY_TARGET)' $(CARGO) +nightly build --locked --lib --target '$(NIGHTLY_HOST)'; \
	export TEST_LIBRARY='$(NIGHTLY_LIBRARY)' CC=clang CXX=clang++ ASAN_OPTIONS=allocator_may_return_null=1; \
	export C_TEST_FLAGS='-fsanitize=address -D__SANITIZE_ADDRESS__=1 -Wno-error'; \
	$(CARGO) test --locked --test misuse -- row_r16_every; \
	for name in basic writers reentry threads cancel; do C_TEST=misuse_$$name $(CARGO) test --locked --test c_suite c_; done; \
	C_TEST=misuse_wrapper $(CARGO) test --locked --test c_suite cpp_

test-valgrind: library ## the C and C++ tests under valgrind; takes minutes
	C_TEST_UNDER='valgrind -q --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite' C_TEST_SECONDS=1200 \
		$(CARGO) test --locked --test c_suite

SCORECARD := $(CARGO) run --quiet --locked --manifest-path tools/scorecard/Cargo.toml --

reliability: library ## the scorecard of docs/RELIABILITY.md, fast tier; ROWS="R5 R9" runs some of it
	$(SCORECARD) fast $(ROWS)

reliability-full: library ## the scorecard to its full goals; takes hours
	$(SCORECARD) full $(ROWS)

bench: library ## measure the library beside its peers, and draw docs/charts; takes about 15 minutes
	sh benches/peers/run.sh

bench-quick: library ## the same in small: one round, 300,000 events, no charts
	sh benches/peers/run.sh --quick --csv build/bench-quick.csv

bench-criterion: ## measure the hot paths one by one
	$(CARGO) bench --locked --bench hot_paths

INSTRUCTIONS := $(CARGO) run --quiet --locked --manifest-path tools/instructions/Cargo.toml --

# Written anew each time: where the library is depends on CARGO_TARGET_DIR.
build/instructions/instructions: benches/instructions/instructions.c include/batpak.h FORCE | library
	@mkdir -p build/instructions
	$(CC) -std=c11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -Iinclude -o $@ $< $(EXAMPLE_LINK)

instructions: build/instructions/instructions ## count the instructions of the hot paths; fail when they rose by more than 5 %
	$(INSTRUCTIONS) check

instructions-record: build/instructions/instructions ## count them and keep the counts as those not to exceed
	$(INSTRUCTIONS) record

substitute = sed -e 's|@PREFIX@|$(PREFIX)|g' -e 's|@LIBDIR@|$(LIBDIR)|g' -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|g' \
	-e 's|@VERSION@|$(VERSION)|g' -e 's|@SOVERSION@|$(SOVERSION)|g' \
	-e "s|@INCLUDEDIR_FROM_LIBDIR@|$$(realpath -m --relative-to='$(LIBDIR)' '$(INCLUDEDIR)')|g"

# Written anew each time: it depends on PREFIX, which is no file.
build/batpak.pc: batpak.pc.in Makefile FORCE
	@mkdir -p build
	@$(substitute) batpak.pc.in > $@

FORCE:

install: all ## install under PREFIX (/usr/local), staged under DESTDIR
	install -d '$(DESTDIR)$(INCLUDEDIR)' '$(DESTDIR)$(LIBDIR)/pkgconfig' '$(DESTDIR)$(LIBDIR)/cmake/batpak'
	install -m 644 include/batpak.h include/batpak.hpp '$(DESTDIR)$(INCLUDEDIR)/'
	install -m 755 '$(RELEASE)/libbatpak.so' '$(DESTDIR)$(LIBDIR)/libbatpak.so.$(VERSION)'
	ln -sf libbatpak.so.$(VERSION) '$(DESTDIR)$(LIBDIR)/$(SONAME)'
	ln -sf $(SONAME) '$(DESTDIR)$(LIBDIR)/libbatpak.so'
	install -m 644 '$(RELEASE)/libbatpak.a' '$(DESTDIR)$(LIBDIR)/'
	install -m 644 build/batpak.pc '$(DESTDIR)$(LIBDIR)/pkgconfig/'
	for file in batpak-config batpak-config-version; do \
		$(substitute) cmake/$$file.cmake.in > '$(DESTDIR)$(LIBDIR)/cmake/batpak/'$$file.cmake || exit 1; \
	done

install-check: ## install under build/ and build programs from there
	rm -rf build/installed
	$(MAKE) install DESTDIR='$(abspath build/installed)' PREFIX=/usr LIBDIR=/usr/lib INCLUDEDIR=/usr/include > /dev/null
	CC='$(CC)' tests/surface/install.sh '$(abspath build/installed)' /usr

install-strip: install ## install, without debug information
	strip --strip-unneeded '$(DESTDIR)$(LIBDIR)/libbatpak.so.$(VERSION)'
	strip --strip-debug '$(DESTDIR)$(LIBDIR)/libbatpak.a'

clean: ## remove what was built
	$(CARGO) clean
	rm -rf build examples-c/build

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)$$/\1|\2/p' Makefile | while IFS='|' read -r name text; do \
		printf '  make %-20s %s\n' "$$name" "$$text"; done
