# Two commands matter: `make demo` and `make test`. Each installs what it needs.
SHELL := /bin/bash
export TRESOR_CACHE ?= /var/cache/tresor
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONPATH := $(CURDIR)/molecule:$(CURDIR)/python_plugins/module_utils
LAB := molecule/lab/labctl
MYPY_TARGETS := bundle/builder bundle/bench python_plugins/module_utils/tresor molecule/lab molecule/stages \
	services/policy_gateway/src/tresor_gateway services/policy_gateway/bench services/policy_gateway/fuzz services/policy_gateway/hatch_build.py \
	services/host_exporter/src/tresor_exporter \
	services/vector/src/tresor_vector services/cli/src/tresor_cli docs/tools \
	services/siem_reader/src/tresor_siem services/gpu_watcher/src/tresor_gpu_watcher services/engine_watchdog/src/tresor_engine_watchdog

.DEFAULT_GOAL := help
.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*/\1/p' $(firstword $(MAKEFILE_LIST)))

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

need-root:
	@[ "$$(id -u)" -eq 0 ] || { echo "this needs root: the lab makes network namespaces and boots hosts. Run it with sudo." >&2; exit 2; }

setup: .venv/.locked  ## install the Debian packages and the locked Python environment

.venv/.locked: requirements-dev.txt molecule/machine-packages.txt molecule/setup
	molecule/setup
	@touch $@

demo: need-root setup  ## boot a site, build and import the bundle, converge, verify, ask the model; the site stays up
	python -m stages demo

test: need-root check test-wheel bench-floors test-lab  ## everything: lint, unit tests, and the lab from create to destroy

test-lab: need-root setup  ## the full lab run through molecule
	@mkdir -p build; : > build/stages.log
	@tail -n +1 -f build/stages.log & tail=$$!; trap "kill $$tail" EXIT; molecule test -s site

test-older-core: need-root setup  ## slow: a whole site converged with ansible-core 2.19
	python -m stages destroy
	python -m stages create
	python -m stages import
	python -m stages older-core
	python -m stages destroy

test-single-node: need-root setup  ## slow: the whole site on one server beside the bastion
	python -m stages destroy
	python -m stages single-node
	python -m stages destroy

test-gpu-host: need-root setup  ## some minutes: the roles of GPU hosts on two lab hosts, with stand-ins for NVIDIA's packages
	python -m stages destroy
	python -m stages gpu-host
	python -m stages destroy

test-dkms: need-root setup  ## slow: real NVIDIA modules for a kernel of Debian, and the kernel they do not build for
	pytest -s -o python_files='slow_gpu_build.py' bundle/tests

test-fs-verity: need-root setup  ## some minutes: the store on a file system with fs-verity, in an emulated machine with Debian's kernel
	command -v qemu-system-x86_64 >/dev/null || apt-get install -y --no-install-recommends qemu-system-x86
	pytest -s -o python_files='slow_fs_verity.py' python_plugins/tests/fs_verity

test-delta: need-root setup  ## some minutes: a bastion's signed inventory, and the bundle that carries only what it lacks
	python -m stages destroy
	python -m stages delta
	python -m stages destroy

test-removal: need-root setup  ## slow: on a converged lab, services switched off are gone and come back whole
	python -m stages removal

test-renewal: need-root setup  ## some minutes: short certificates renewed by timer, on a lab that is up
	python -m stages renewal

test-vector-standalone: need-root setup  ## slow: the lab's vector host with the real Milvus server, users and its own mutual TLS
	python -m stages destroy
	python -m stages vector-standalone
	python -m stages destroy

test-browser: need-root setup  ## on a lab that is up: a real Chromium signs in, asks and signs out
	command -v chromium >/dev/null || apt-get install -y --no-install-recommends chromium
	python -m stages browser

test-failover: need-root setup  ## slow: on a converged lab, what users see while an engine is killed, hangs, has no memory or loses its host
	pytest -s -p no:cacheprovider molecule/site/tests/slow_failover.py

test-evaluate: need-root setup  ## slow: on a converged lab, the small model in float32 and bfloat16 is asked, compared and judged
	python -m stages evaluate

test-multi-node: need-root setup  ## slow: on a converged lab, one engine over two hosts with the CPU engine, as far as it goes
	python -m stages multi-node

test-siem: need-root setup  ## slow: on the converged lab, 200,000 records while the collector is away for 10 minutes
	python -m stages siem --seconds 600 --records 200000

test-siem-short: need-root setup  ## the same in a minute, with 20,000 records
	python -m stages siem --seconds 30 --records 20000

check: setup  ## the inner loop: lint and unit tests, side by side
	@$(MAKE) --no-print-directory -j2 --output-sync=target lint unit

lint: setup
	ruff format --check .
	ruff check .
	mypy $(MYPY_TARGETS)
	yamllint -s .
	ANSIBLE_INVENTORY=inventories/lab/hosts.yml ansible-lint --offline

unit: setup
	pytest -n 2

bench-bundle: setup  ## the importer beside raw copies, some minutes and 10 GB of disk; ARGS=--big-mib 512 is shorter
	python -m bundle.bench $(ARGS)

test-bundle-slow: setup  ## minutes: 2,000 flipped bits, and the importer killed at every call
	pytest -o python_files='slow_*.py' python_plugins/tests/bundle

bench-gateway: setup  ## the policy gateway beside plain NGINX, some minutes; ARGS=--vs-litellm adds LiteLLM
	python -m services.policy_gateway.bench $(ARGS)

bench-floors: setup  ## the same, short: fails when a floor of CPU, leaks, memory or records is broken
	python -m services.policy_gateway.bench --rounds 2 --seconds 2 --short

fuzz-gateway: setup  ## some minutes: hostile clients and engines, schemathesis, atheris and many examples on the policy gateway
	PYTHONPATH=$(CURDIR)/services/policy_gateway/src:$(PYTHONPATH) python -m services.policy_gateway.fuzz $(ARGS)

test-wheel: setup  ## slow: the gateway's tests against its wheel, with the compiled modules
	wheel=$$(python -m services.policy_gateway.bench --build-only) && \
	  pytest -q -n 2 services/policy_gateway/tests -o pythonpath="$(CURDIR) $$wheel $(CURDIR)/python_plugins/module_utils $(CURDIR)/molecule"

lab-status: setup  ## hosts of this checkout's lab
	$(LAB) status

lab-down: setup  ## stop the hosts, keep their data
	$(LAB) down

lab-destroy: setup  ## remove the lab with all its data
	$(LAB) destroy

role-tables: setup  ## renew the variable tables in the roles' READMEs
	python docs/tools/role_tables.py

lock-dev: setup  ## renew requirements-dev.txt from requirements-dev.in
	uv pip compile -q --generate-hashes --no-header --no-annotate --python-version 3.11 --universal \
		requirements-dev.in -o requirements-dev.txt

clean:  ## remove build results (the cache and the lab stay)
	rm -rf build
