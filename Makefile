# `make run` and `make test` do all the set-up on a fresh machine: .venv, then the package and its tools.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: run test check fix setup faults flips torture audit bench clean

run: $(READY)  ## set up, then the main job on the embedded data
	@$(BIN)/harness run ablation-bn

test: check  ## lint, types, tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fix: $(READY)  ## what the linter can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

faults: $(READY)  ## the fault tests, and docs/faults.md from what they gave
	$(BIN)/python -m pytest tests/faults --write-faults docs/faults.md

flips: $(READY)  ## every byte of a Parquet file flipped in each way it can be read; hours
	$(BIN)/python -m pytest tests/data/test_data_flips.py -s --every-byte -k every_flipped_byte

torture: $(READY)  ## kills training a hundred times, about ten minutes; writes docs/torture.json
	@$(BIN)/python tests/torture

audit: $(READY)  ## known vulnerabilities of the versions in constraints.txt, from PyPI
	@PATH="$$PATH:$(CURDIR)/$(BIN)" uv tool run pip-audit --strict --no-deps --disable-pip \
		-r constraints.txt

bench: $(READY)  ## measures and writes docs/performance.md; PARTS="ablation cifar" for some
	@PATH="$$PATH:$(CURDIR)/$(BIN)" uv pip install --quiet --compile-bytecode \
		--python $(BIN)/python -c constraints.txt -r benchmarks/requirements.txt
	@$(BIN)/python -m benchmarks $(PARTS)

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@echo "setting up .venv (torch is several GB: the first time takes minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@command -v uv >/dev/null || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	@PATH="$$PATH:$(CURDIR)/$(BIN)" uv pip install --quiet --compile-bytecode \
		--python $(BIN)/python -c constraints.txt -e '.[dev]'
	@touch $(READY)

clean:  ## removes the environment; keeps data and results
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
