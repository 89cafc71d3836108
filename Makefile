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

test-slow: $(VENV)/.slow $(VENV)/.web
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -m slow -n 2 --dist loadfile -v

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

# What the page of docs/devices.md runs in a browser, which PyPI has not; without npm its test is skipped.
WEB = onnxruntime-web-1.30.0.tgz
WEB_SHA256 = d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71
$(VENV)/.web: Makefile | $(BIN)/python
	@mkdir -p $(VENV)/web
	@if (cd $(VENV)/web && npm pack --silent onnxruntime-web@1.30.0 >/dev/null); then \
		cd $(VENV)/web && echo "$(WEB_SHA256)  $(WEB)" | sha256sum --check --quiet && \
		tar xzf $(WEB) package/dist/ort.wasm.min.mjs package/dist/ort-wasm-simd-threaded.mjs \
			package/dist/ort-wasm-simd-threaded.wasm && rm $(WEB) && touch ../.web; \
	else echo "onnxruntime-web was not fetched (is npm installed?): tests/test_web.py is skipped"; fi

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
