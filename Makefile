.PHONY: check test slow messages lint bench

check: lint test  # before every commit

test:
	pytest

slow:
	pytest -m slow

messages:  # rewrite tests/messages.json after a change of wording; read the diff
	pytest --update-messages -m "slow or not slow"

lint:
	ruff check .
	ruff format --check .
	mypy

bench:
	python -m benchmarks
