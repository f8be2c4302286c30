# Thin names over real commands. `make demo` and `make test` are all that a newcomer needs.

# uv alone will do: it brings the Pythons.
PYTHON ?= $(shell python3 -c "" 2>/dev/null && echo python3 || echo uv run --no-project python)
BIN := .venv/bin
SYSTEM ?= video
EMULATOR ?= ministack
MAKEFLAGS += --no-print-directory

.PHONY: demo test check unit e2e bench bench-quality up down status environments lock clean

demo: environments  ## the main job on real data, end to end, on this machine
	$(BIN)/twinloop demo $(SYSTEM) --emulator $(EMULATOR)

test: environments check unit e2e  ## everything that guards the project; `EMULATOR=localstack` for the stricter cloud

check: environments  ## lint, types, import contracts, templates
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/cfn-lint template.yaml
	$(BIN)/hadolint infra/containers/*/Dockerfile
	AWS_DEFAULT_REGION=us-east-1 SAM_CLI_TELEMETRY=0 .envs/sam/bin/sam validate --lint

unit: environments  ## unit, contract and functional tests
	$(BIN)/pytest tests/unit tests/contract tests/functional -n 2 --dist loadfile

e2e: environments  ## the real template on the real local cloud; one learning run is part of the first test
	$(BIN)/pytest tests/e2e --emulator $(EMULATOR) --timeout 1200

bench: environments  ## the budgets, into benchmarks/*.json
	$(BIN)/python -m benchmarks

bench-quality: environments  ## models on public data, into benchmarks/quality.json
	$(BIN)/python -m benchmarks.quality

up: environments
	$(BIN)/twinloop up --emulator $(EMULATOR)

down:
	$(BIN)/twinloop down

status:
	$(BIN)/twinloop status

environments:
	@$(PYTHON) infra/environments.py $(filter localstack,$(EMULATOR))

lock:  ## move the locks to what pyproject.toml and the .in files ask for (needs uv)
	@$(PYTHON) infra/lock.py

clean:
	rm -rf build .aws-sam
