.PHONY: check test slow lint bench

check: lint test  # before every commit

test:
	pytest

slow:
	pytest -m slow

lint:
	ruff check .
	ruff format --check .
	mypy

bench:
	python -m benchmarks
