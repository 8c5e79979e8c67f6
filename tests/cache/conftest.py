import pytest


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A cache folder of each test's own."""
    monkeypatch.setenv("SAM_FT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def log_level(caplog):
    """The log holds what a run tells."""
    caplog.set_level("INFO", "sam_ft")
