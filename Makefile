# Everything needs only Python 3.11 or later; each target sets up its own virtual environment first.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test test-slow check format reference docs dist clean

demo: $(VENV)/.demo
	$(BIN)/budgetnet run recipes/quickstart.py

# Each process trains small networks, which only lose by sharing their work; a file's tests stay together.
test: $(VENV)/.test
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: $(VENV)/.slow
	$(BIN)/python -m pytest -m slow

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python docs/reference.py --check

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

reference: $(VENV)/.dev
	$(BIN)/python docs/reference.py

# The documentation as a site, build/site/index.html; a warning is an error, in the slow tests too.
docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -q -W --keep-going -b html -c docs . build/site

# A wheel and its source in dist/, checked; tests/test_release.py installs the wheel and tries it.
dist: $(VENV)/.release
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*

clean:
	rm -rf $(VENV) build dist *.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "budgetnet needs Python 3.11 or later, and $(PYTHON) is $$($(PYTHON) -V); make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

# One mark for each set of extras; a change of the package's metadata installs again.
$(VENV)/.%: pyproject.toml | $(BIN)/python
	@echo "installing budgetnet[$*]; the first time this fetches torch, several GB"
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	@touch $@
