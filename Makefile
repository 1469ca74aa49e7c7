# The everyday commands. Every variable can be overridden: make run CONFIG=/etc/siemgate/config.d

CARGO   ?= cargo
PROFILE ?= ci
CONFIG  ?= config.d
TARGET  ?= $(or $(CARGO_TARGET_DIR),target)
SIEMGATE ?= $(TARGET)/$(PROFILE)/siemgate
# Where the printed example posts to; `server.listen` of CONFIG decides where the gateway listens.
URL     ?= http://localhost:5000/webhook
SAMPLE  ?= tests/fixtures/superna-critical-locked-out.json
KILLS   ?= 200
# Seconds for each target of fuzzing, and which targets; all unless set.
SECONDS ?= 60
FUZZ    ?= $(sort $(notdir $(basename $(wildcard fuzz/fuzz_targets/*.rs))))
# Passed to cargo test, such as ARGS="--test it routes".
ARGS    ?=

.DEFAULT_GOAL := help
.PHONY: help build run test soak attack fuzz bench setup lint docs dist test-install

help: ## Show this list.
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 22

build: ## Build the gateway, optimised.
	$(CARGO) build --locked --profile $(PROFILE) --target-dir $(TARGET)

run: build ## Build, then start on CONFIG (config.d); data goes to ./data.
	@printf '\nTo try it, in another terminal:\n\n'
	@printf "  curl -sS '%s?wait=5s' -H 'Content-Type: application/json' --data-binary @%s\n" '$(URL)' '$(SAMPLE)'
	@printf '\nor, with a fresh event every time:\n\n  %s --config %s send --wait\n\nCtrl-C stops it.\n\n' '$(SIEMGATE)' '$(CONFIG)'
	@exec $(SIEMGATE) --config $(CONFIG) run

setup: ## Install what the tests need (apt; root or sudo).
	@CARGO_TARGET_DIR='$(TARGET)' tests/setup.sh

test: setup ## Install what the tests need, then run all of them.
	$(CARGO) test --locked --profile $(PROFILE) --target-dir $(TARGET) $(ARGS)

soak: ## Kill the gateway under load KILLS times (200; ten minutes).
	SIEMGATE_KILLS=$(KILLS) $(CARGO) test --locked --profile $(PROFILE) --target-dir $(TARGET) --test it -- crash:: --nocapture

attack: ## Ten minutes of attack with everything failing, and a verdict.
	SIEMGATE_ATTACK_SECONDS=600 $(CARGO) test --locked --profile $(PROFILE) --target-dir $(TARGET) --test it -- attack:: --nocapture

fuzz: export PATH := $(abspath $(TARGET))/tools/bin:$(PATH)
fuzz: export CARGO_TARGET_DIR := $(abspath $(TARGET))/fuzz
fuzz: ## Fuzz each target SECONDS (60); FUZZ="cef preset" for some.
	@command -v cargo-fuzz >/dev/null || \
		$(CARGO) install --locked --root $(abspath $(TARGET))/tools --version 0.13.2 cargo-fuzz
	@$(CARGO) fuzz build --sanitizer none
	@for target in $(FUZZ); do \
		echo "==> $$target"; found="$$CARGO_TARGET_DIR/corpus/$$target"; mkdir -p "$$found"; \
		$(CARGO) fuzz run --sanitizer none "$$target" "$$found" "fuzz/corpus/$$target" -- \
			-max_total_time=$(SECONDS) -timeout=25 -rss_limit_mb=4096 -verbosity=0 -print_final_stats=1 || exit 1; \
	done

bench: ## Measure beside bare programs: docs/performance.md (half an hour; ARGS="--only ingress").
	$(CARGO) bench --locked --target-dir $(TARGET) --bench gateway -- --report docs/performance.md $(ARGS)

lint: ## Check formatting and lints.
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --profile $(PROFILE) --all-targets --target-dir $(TARGET) -- -D warnings

docs: ## Write docs/configuration.md, metrics.md and destinations.md anew from the code.
	UPDATE_DOCS=1 $(CARGO) test --locked --profile $(PROFILE) --target-dir $(TARGET) --test it -- reference destinations

dist: ## Build the tarball for old and new Linux: target/dist/*.tar.gz (ten minutes, once).
	CARGO_TARGET_DIR=$(abspath $(TARGET)) packaging/dist.sh

test-install: dist setup ## Install the tarball in a clean root of an old Debian, with systemd (root).
	CARGO_TARGET_DIR=$(abspath $(TARGET)) packaging/test-install.sh \
		"$$(ls -t $(TARGET)/dist/siemgate-*-linux.tar.gz | head -n 1)"
