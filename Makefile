.DEFAULT_GOAL := help
.PHONY: help setup demo test test-cluster lint format bench bench-detector bench-rollout bench-serving bench-models bench-image lock image images generate clean distclean

FEATURES := $(firstword $(wildcard demo/run/pipelines/better/steps/*/build-features/features))
IMAGES := operator detector detector-native predictor pipeline
PYTEST := .venv/bin/python -m pytest
export OMP_NUM_THREADS := 1
export ORT_DISABLE_TELEMETRY := 1

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install what is needed: .venv, Prometheus, Alertmanager
	@requirements/install.sh

demo: setup ## The whole loop on a real retail year; KEEP=1 leaves it running
	@.venv/bin/davy demo run $(if $(KEEP),--keep)

test: setup ## All tests
	@rm -f .coverage*
	$(PYTEST) -n 2 -q -m "not e2e and not node" --cov --cov-report=
	$(PYTEST) -q -m e2e --cov --cov-append --cov-report=term

test-cluster: setup ## On a Kubernetes node of its own, as root: 20 minutes; builds its programs the first time
	.venv/bin/python -m tests.cluster.bed.node.programs
	.venv/bin/python -m tests.cluster.bed.clients
	DAVY_BED=require $(PYTEST) -q -m node tests/cluster/node

lint: setup ## ruff, mypy, import-linter
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

format: setup ## Format the code
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

image: setup ## The image of a model package: PACKAGE=store/NAME/VERSION
	@test -n "$(PACKAGE)" || { echo "error: name a model package: make image PACKAGE=store/NAME/VERSION"; exit 64; }
	@services/images/build.sh predictor "$(PACKAGE)"

images: setup ## Every image, each started and measured (as root; the pipeline's is large); image-NAME does one
	@set -e; for name in $(IMAGES); do $(MAKE) --no-print-directory image-$$name; done

image-%: setup
	@services/images/build.sh $(subst -, --variant ,$*) --builder buildah
	@.venv/bin/python -m tests.benchmarks.bench_images $*

bench-detector: setup ## The detector beside a bare endpoint on a million events; writes its table
	.venv/bin/python -m tests.benchmarks.bench_detector

bench-rollout: setup ## The gate beside others' judges on a day of looks; 15 minutes of CPU; writes its table
	.venv/bin/python -m tests.benchmarks.bench_rollout_day
	.venv/bin/python -m tests.benchmarks.bench_rollout_baseline

bench: setup ## Benchmarks; writes their tables into the READMEs
	.venv/bin/python -m tests.benchmarks.bench_rollout
	.venv/bin/python -m tests.benchmarks.bench_reload
	@test -n "$(FEATURES)" || { echo "error: run 'make demo' first: the drift and outlier benchmarks need its features"; exit 66; }
	.venv/bin/python -m tests.benchmarks.bench_drift $(FEATURES)
	.venv/bin/python -m tests.benchmarks.bench_outlier $(FEATURES)

bench-serving: setup ## Serving beside its rivals, 12 minutes; writes its tables into services/README.md
	.venv/bin/python -m tests.benchmarks.bench_serving

bench-models: setup ## Models beside their rivals on the shipped tasks; writes its tables
	.venv/bin/python -m tests.benchmarks.bench_models $(if $(FEATURES),--features $(FEATURES))

generate: setup ## Write the generated files: reference pages, schemas, gRPC messages, compiled pipelines, names in the chart's schema
	.venv/bin/python -m davy.cli.reference .
	.venv/bin/python -m davy.packaging.schemas pipelines/schemas
	.venv/bin/python -m davy.protocol.stubs services/davy/protocol
	.venv/bin/python -m davy.rollout.crd k8s/crds
	.venv/bin/python -m davy.cli.chart_schema helm/davy/values.schema.json
	.venv/bin/davy pipeline compile

bench-image: setup ## From start to ready, and what an image weighs: IMAGE=NAME:VERSION, as root
	@test -n "$(IMAGE)" || { echo "error: name an image: make bench-image IMAGE=NAME:VERSION"; exit 64; }
	.venv/bin/python -m tests.benchmarks.bench_start "$(IMAGE)"

lock: setup ## Resolve the locked sets again
	@for extra in dev serve monitor native operator train; do \
	  .venv/bin/uv pip compile --quiet --upgrade --no-header --no-annotate --python-version 3.11 \
	    --python-platform x86_64-manylinux_2_28 --extra $$extra pyproject.toml -o requirements/$$extra.txt; \
	done

clean: ## Remove everything that the demo and the tests wrote
	@test ! -e demo/.lock || flock -n demo/.lock true || { echo "error: demo/: a demo runs here; end it first"; exit 73; }
	rm -rf demo .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage*

distclean: clean ## Remove .venv too
	rm -rf .venv
