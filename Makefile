# What a person types. `make` alone lists it.
#   VENV=DIR     where the environment is            PORT=N      the port of `make app`
#   PYTHON=FILE  which Python it is made with        ARGS="…"    more words for pytest, as in ARGS="-k dataset"

VENV    ?= .venv
PORT    ?= 8501
PYTHON  ?= $(shell command -v python3.11 || command -v python3 || echo python3.11)
WORKERS ?= 2
ARGS    ?=

# The environment is whole when the stamp stands in it. The stamp is the last thing made, and its name follows from
# what the requirement files say, so a half-built or outdated environment is made anew. One that somebody else made is
# left alone.
REQUIREMENTS := requirements.txt requirements-train.txt requirements-dev.txt
KEY   := $(shell cat $(REQUIREMENTS) | cksum | tr ' ' -)
STAMP := $(VENV)/complete-$(KEY)
RUN   := $(VENV)/bin/python -m

CHROMIUM_NAMES := chromium chromium-browser google-chrome google-chrome-stable

.PHONY: help app test coverage lint docs env chromium strace postgresql key
.DELETE_ON_ERROR:

help:
	@echo 'make app       start the app on http://localhost:$(PORT) (PORT=N for another port)'
	@echo 'make test      run every test, those in a real browser too (ARGS="-k WORD" for some)'
	@echo 'make coverage  run every test and print which branches of cadlib they cover (slower)'
	@echo 'make lint      ruff, and mypy and import-linter on cadlib'
	@echo 'make docs      the documentation site, into site/'
	@echo 'make env       make the environment $(VENV) alone (each of the above does it when needed)'

# glibc keeps a pool of memory for each thread, and a session is a thread: two pools for all keep a session under 15 MB.
app: env
	@MALLOC_ARENA_MAX=2 $(RUN) streamlit run app.py --server.port $(PORT)

test: env chromium strace postgresql
	$(RUN) pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

coverage: env chromium strace postgresql
	$(RUN) pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --cov --cov-report=term:skip-covered $(ARGS)

lint: env
	$(RUN) ruff check .
	$(RUN) mypy
	PYTHONPATH=. $(VENV)/bin/lint-imports --no-logo

# Without network: the theme loads no font, and the reference comes from the docstrings here.
docs: env
	PYTHONPATH=. NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --quiet

env: $(STAMP)

$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'Expected Python 3.11 or newer as "$(PYTHON)". Install it, or name it: make PYTHON=/path/to/python3.11'; exit 1; }
	@[ ! -e '$(VENV)' ] || [ -f '$(VENV)/made-by-make' ] || \
	  { echo '$(VENV) is there but was not made by make. Delete it, or name another place: make VENV=DIR'; exit 1; }
	@echo 'Making the environment $(VENV): some minutes and about 8 GB, once.'
	rm -rf '$(VENV)'
	@mkdir -p '$(VENV)' && touch '$(VENV)/made-by-make'
	$(PYTHON) -m venv '$(VENV)'
	$(RUN) pip install --no-input --disable-pip-version-check -r requirements-dev.txt
	@touch '$@'

# The browser tests drive a Chromium of the system. In CI a missing one is an error; elsewhere those tests are skipped.
chromium:
	@for name in $(CHROMIUM_NAMES); do command -v $$name >/dev/null 2>&1 && exit 0; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
	  echo 'Installing Chromium for the browser tests.'; \
	  apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends chromium; \
	else \
	  echo 'No Chromium found, so no test can drive a browser. Install one, on Debian or Ubuntu with:'; \
	  echo '  sudo apt-get install chromium'; \
	  [ -z "$$CI" ]; \
	fi

# Tests watch by strace what is connected to and written. It is there for Linux alone.
strace:
	@command -v strace >/dev/null 2>&1 && exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
	  echo 'Installing strace for the tests of privacy.'; \
	  apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends strace; \
	else \
	  echo 'No strace found, so no test can watch connections and files. On Debian or Ubuntu:'; \
	  echo '  sudo apt-get install strace'; \
	  [ -z "$$CI" ]; \
	fi

# Tests of the case store start a server of their own. Debian keeps its programs off the path.
postgresql:
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 && exit 0; command -v initdb >/dev/null 2>&1 && exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
	  echo 'Installing PostgreSQL for the tests of the case store.'; \
	  apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends postgresql; \
	else \
	  echo 'No PostgreSQL found, so the case store is tested on SQLite alone. On Debian or Ubuntu:'; \
	  echo '  sudo apt-get install postgresql'; \
	  [ -z "$$CI" ]; \
	fi

key:
	@echo $(KEY)
