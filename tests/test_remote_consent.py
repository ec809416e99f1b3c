"""NSD's terms are accepted before its own bucket is asked for anything."""

import io
from pathlib import Path

import pytest

from nsd_prep.core.errors import OutputError, ParameterError
from nsd_prep.notebook import open_nsd
from nsd_prep.sources import client as client_module
from nsd_prep.sources import consent as consent_module
from nsd_prep.sources.bucket import BucketSource
from nsd_prep.sources.consent import TERMS, accepted_terms, consent_file


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CONFIG_HOME": str(tmp_path / "config")}


def answered(environment: dict[str, str], answer: str) -> tuple[consent_module.Consent, str]:
    questions = Terminal()
    consent = accepted_terms(environment=environment, terminal=(Terminal(answer), questions))
    return consent, questions.getvalue()


@pytest.mark.parametrize("answer", ["y\n", "yes\n", " Y \n", "Yes\n"])
def test_a_yes_on_a_terminal_is_kept(environment: dict[str, str], answer: str) -> None:
    consent, asked = answered(environment, answer)
    assert consent.way == "answer"
    assert TERMS in asked
    assert "do you accept" in asked.lower()
    again, asked = answered(environment, "no\n")
    assert again == consent
    assert asked == ""


@pytest.mark.parametrize("answer", ["", "\n", "n\n", "no\n", "nay\n"])
def test_anything_else_is_no(environment: dict[str, str], answer: str) -> None:
    with pytest.raises(ParameterError, match="were not accepted"):
        answered(environment, answer)
    file = consent_file(environment)
    assert file is not None
    assert not file.exists()


def test_a_parameter_or_a_variable_accepts(environment: dict[str, str]) -> None:
    no_terminal = (io.StringIO(), io.StringIO())
    with pytest.raises(ParameterError, match="accept_nsd_terms=True"):
        accepted_terms(environment=environment, terminal=no_terminal)
    variable = environment | {"NSD_ACCEPT_TERMS": "1"}
    assert accepted_terms(environment=variable, terminal=no_terminal).way == "environment"
    file = consent_file(environment)
    assert file is not None
    file.unlink()
    assert accepted_terms(True, environment=environment, terminal=no_terminal).way == "parameter"
    assert accepted_terms(environment=environment, terminal=no_terminal).way == "parameter"
    with pytest.raises(ParameterError):
        accepted_terms(False, environment=environment, terminal=no_terminal)


def test_terms_of_another_version_are_asked_for_again(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted_terms(True, environment=environment)
    monkeypatch.setattr(consent_module, "TERMS_VERSION", 2)
    with pytest.raises(ParameterError):
        accepted_terms(environment=environment, terminal=(io.StringIO(), io.StringIO()))


def test_a_home_that_cannot_be_written_is_no_reason_to_refuse(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("a file")
    environment = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    assert accepted_terms(True, environment=environment).way == "parameter"


def test_no_home_is_no_reason_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    assert accepted_terms(True, environment={}).way == "parameter"
    with pytest.raises(ParameterError, match="were not accepted"):
        accepted_terms(environment={}, terminal=(io.StringIO(), io.StringIO()))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with pytest.raises(OutputError, match="no home folder"):
        open_nsd("nowhere")


@pytest.mark.parametrize(
    "url",
    [
        "s3://natural-scenes-dataset",
        "s3://natural-scenes-dataset/nsddata",
        "https://natural-scenes-dataset.s3.us-east-2.amazonaws.com",
        "https://s3.amazonaws.com/natural-scenes-dataset",
    ],
)
def test_nsds_own_bucket_is_not_opened_before(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("NSD_ACCEPT_TERMS", raising=False)

    def refuse(*_: object) -> None:
        raise AssertionError("opened")

    with monkeypatch.context() as patch:
        patch.setattr(client_module.Client, "__init__", refuse)
        with pytest.raises(ParameterError, match="Data Access Agreement"):
            BucketSource(url, tmp_path / "mirror", accept_nsd_terms=False)
    source = BucketSource(url, tmp_path / "mirror", accept_nsd_terms=True)
    assert source.consent is not None
    assert source.consent.way == "parameter"


def test_other_places_need_no_consent(tmp_path: Path) -> None:
    for url in ("s3://my-copy/nsd", "https://mirror.example.org/natural-scenes-dataset"):
        assert BucketSource(url, tmp_path).consent is None
