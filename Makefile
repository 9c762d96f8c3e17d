# Every target does its own set-up, in a private virtual environment with the versions of constraints.txt.
# What it takes: Python 3.11 or newer, make, git.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
ARGS ?=
SEED ?=
SEEDS ?=
PLANT ?=

.PHONY: help demo test quick sim failures check format bench soak flood clean

help:
	@echo "make demo    a whole account on this machine, without keys   (ARGS=\"--seconds 20\")"
	@echo "make test    all tests, four at a time                       (ARGS=\"-k name\")"
	@echo "make quick   the tests that need neither programs nor a publisher in real time"
	@echo "make failures every known failure, into docs/failures.md    (ARGS=\"--runs 5 --full\")"
	@echo "make sim     worlds in which everything fails, each from one number (SEED=7, or SEEDS=10000)"
	@echo "make check   formatting, lint, strict types, import contracts"
	@echo "make format  put the code into the form that check wants"
	@echo "make bench   rates and latencies next to the server's own    (ARGS=\"--help\")"
	@echo "make soak    half an hour of load and faults: what grows?    (ARGS=\"--minutes 5 --rate 500\")"
	@echo "make flood   half an hour of more than fits: is what was received in the log? (ARGS=\"--minutes 4 --rate 500\")"
	@echo "make clean   remove what these targets made"

demo: $(VENV)/.run
	@$(BIN)/statecast demo $(ARGS)

test: $(VENV)/.test
	$(BIN)/python -m pytest --numprocesses 4 --dist worksteal $(ARGS)

# Most of these tests wait for something most of the time: four at a time keep two cores busy.
quick: $(VENV)/.test
	$(BIN)/python -m pytest --numprocesses 4 --dist worksteal -m "not slow" $(ARGS)

failures: $(VENV)/.test
	@PYTHONPATH=.:tests $(BIN)/python -m failures $(ARGS)

# With SEED=n one world, shown line by line; with SEEDS=n so many, on all cores. PLANT=name breaks the program first.
sim: $(VENV)/.test
	@PYTHONPATH=.:tests $(BIN)/python -m sim $(if $(SEEDS),--seeds $(SEEDS),$(or $(SEED),1)) $(if $(PLANT),--plant $(PLANT)) $(ARGS)

check: $(VENV)/.check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.check
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.run
	@PYTHONPATH=tests $(BIN)/python -m bench $(ARGS)

soak: $(VENV)/.run
	@PYTHONPATH=tests $(BIN)/python -m bench.soak $(ARGS)

flood: $(VENV)/.run
	@PYTHONPATH=tests $(BIN)/python -m bench.flood $(ARGS)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info

$(VENV)/.pip: constraints.txt
	@echo "setting up $(VENV) with $(PYTHON)"
	@$(PYTHON) -c 'import sys; sys.exit("statecast takes Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --constraint constraints.txt --upgrade pip
	@touch $@

$(VENV)/.run: $(VENV)/.pip pyproject.toml
	@echo "installing statecast"
	@$(PIP) install --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.run
	@echo "installing what the tests need"
	@$(PIP) install --constraint constraints.txt --group test
	@touch $@

$(VENV)/.check: $(VENV)/.test
	@echo "installing what the checks need"
	@$(PIP) install --constraint constraints.txt --group check
	@touch $@
