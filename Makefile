# make demo    the whole path on embedded data: convert weights, train, predict, score (about 5 minutes on two cores)
# make test    the test suite            make lint    the linter and the formatter's check
# make bench   the benchmarks            make docs    the documentation's site, in output/site
# make clean   remove .venv, outputs and caches
# PYTHON=python3.12 make ...  uses another interpreter for .venv

PYTHON ?= python3
export PYTHON

.PHONY: demo test test-slow lint docs bench clean set-up set-up-test

demo: set-up
	.venv/bin/python tools/demo.py

# A process a core, each with one thread: the tests are small, or wait for processes that they start.
test: set-up-test
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -m "not slow" -n auto --dist loadfile

test-slow: set-up-test
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -m slow -n auto --dist loadfile

lint: set-up-test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

# --strict makes a broken link an error (and --quiet would hide it); the variable silences a notice about mkdocs 2.
docs: set-up-test
	NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict
	@echo output/site/index.html

bench: set-up-test
	.venv/bin/python tools/benchmark_inference.py
	.venv/bin/python tools/benchmark_public.py
	.venv/bin/python tools/benchmark_loader.py
	.venv/bin/python tools/benchmark_training.py
	.venv/bin/python tools/benchmark_diffmatte.py
	.venv/bin/python tools/benchmark_metrics.py

clean:
	rm -rf .venv output .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

set-up:
	@tools/set_up.sh run

set-up-test:
	@tools/set_up.sh test
