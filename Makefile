.PHONY: test slow lint bench

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
