import re
from pathlib import Path
from typing import get_args

import pytest

from model.engines.choice import ENGINES
from plugin.errors import InputError
from plugin.settings import Settings, archive_endpoint, load_settings

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_every_setting_has_its_paragraph_and_every_paragraph_its_setting():
    documented = set(re.findall(r"^\| `SIGHTLINE_(\w+)`", PAGE.read_text(), re.MULTILINE))

    assert documented == {name.upper() for name in Settings.model_fields}


def test_a_setting_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("SIGHTLINE_PORT", "9000")

    assert load_settings().port == 9000


def test_a_wrong_setting_is_named_without_its_value(monkeypatch):
    monkeypatch.setenv("SIGHTLINE_PORT", "secret-value")

    with pytest.raises(InputError, match="SIGHTLINE_PORT") as refused:
        load_settings()
    assert "secret-value" not in str(refused.value)


def test_the_engines_of_the_settings_are_those_that_there_are():
    assert get_args(Settings.model_fields["engine"].annotation) == ENGINES


def test_only_settings_that_change_results_change_their_identity():
    default = Settings()

    assert Settings(port=1).results_sha256 == default.results_sha256
    assert Settings(max_frontals=1).results_sha256 != default.results_sha256
    assert Settings(engine="onnx").results_sha256 != default.results_sha256
    assert Settings(correct_orientation=True).results_sha256 != default.results_sha256


def test_the_service_goes_by_its_public_name_and_those_allowed():
    settings = Settings(public_url="https://sightline.hospital.example:8443/x", allowed_hosts="sightline, archive-side")

    assert settings.host_names == ("sightline.hospital.example", "sightline", "archive-side")
    assert Settings().host_names == ()


def test_a_secret_may_stand_in_a_file(monkeypatch, tmp_path):
    (tmp_path / "password").write_text("Pässwort\n", encoding="utf-8")
    monkeypatch.setenv("SIGHTLINE_ARCHIVE_PASSWORD_FILE", str(tmp_path / "password"))

    settings = load_settings()

    assert settings.archive_password.get_secret_value() == "Pässwort"
    assert "Pässwort" not in repr(settings)


def test_the_file_of_settings_may_name_files_of_secrets_too(monkeypatch, tmp_path):
    (tmp_path / "token").write_text("of the archive")
    (tmp_path / "sightline.env").write_text(f"SIGHTLINE_ARCHIVE_TOKEN_FILE={tmp_path / 'token'}\n")
    monkeypatch.chdir(tmp_path)

    assert load_settings().archive_token.get_secret_value() == "of the archive"


def test_a_secret_given_twice_or_in_no_readable_file_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("SIGHTLINE_FHIR_TOKEN_FILE", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"SIGHTLINE_FHIR_TOKEN_FILE cannot be read \(FileNotFoundError\)"):
        load_settings()

    monkeypatch.setenv("SIGHTLINE_FHIR_TOKEN", "secret-value")
    with pytest.raises(InputError, match="both set") as refused:
        load_settings()
    assert "secret-value" not in str(refused.value)


def test_only_secrets_are_read_from_files(monkeypatch, tmp_path):
    (tmp_path / "port").write_text("9000")
    monkeypatch.setenv("SIGHTLINE_PORT_FILE", str(tmp_path / "port"))

    assert load_settings().port == Settings.model_fields["port"].default


def test_an_empty_value_is_an_unset_one(monkeypatch):
    monkeypatch.setenv("SIGHTLINE_ARCHIVE_URL", "")
    monkeypatch.setenv("SIGHTLINE_EVENT_SECRET", "")

    assert (load_settings().archive_url, load_settings().event_secret) == (None, None)


def test_a_weak_event_secret_is_refused(monkeypatch):
    monkeypatch.setenv("SIGHTLINE_EVENT_SECRET", "0123456789abcde")

    with pytest.raises(InputError, match=r"SIGHTLINE_EVENT_SECRET.*16 characters") as refused:
        load_settings()
    assert "0123456789abcde" not in str(refused.value)


@pytest.mark.parametrize(
    ("host", "on_loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False), ("sightline", False)],
)
def test_loopback_is_told_from_the_rest(host, on_loopback):
    assert Settings(host=host).on_loopback is on_loopback


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"archive_user": "a", "archive_token": "secret-value"}, "set one of"),
        ({"archive_token_url": "http://tokens", "archive_client_id": "a"}, "needs SIGHTLINE_ARCHIVE_CLIENT_ID"),
        ({"archive_header": "secret-value"}, "Name: value"),
        ({"archive_header": "X-Key: secret-value\nHost: other"}, "Name: value"),
    ],
)
def test_ways_to_the_archive_that_cannot_be_are_refused(monkeypatch, settings, words):
    for name, value in settings.items():
        monkeypatch.setenv(f"SIGHTLINE_{name.upper()}", value)

    with pytest.raises(InputError, match=words) as refused:
        load_settings()
    assert "secret-value" not in str(refused.value)


@pytest.mark.parametrize("missing", ["public_url", "organization"])
def test_multimedia_reports_are_stored_only_with_links_and_an_organization(monkeypatch, missing):
    needed = {"write_imr": "true", "public_url": "https://sightline.example", "organization": "St. Elsewhere"}
    for name, value in needed.items():
        monkeypatch.setenv(f"SIGHTLINE_{name.upper()}", value)
    assert load_settings().write_imr

    monkeypatch.delenv(f"SIGHTLINE_{missing.upper()}")
    with pytest.raises(InputError, match="SIGHTLINE_WRITE_IMR needs"):
        load_settings()


def test_the_settings_of_oauth_reach_the_endpoint():
    settings = Settings(
        archive_token_url="http://tokens", archive_client_id="a", archive_client_secret="secret-value", timeout_s=7
    )

    endpoint = archive_endpoint(settings, "http://archive/dicom-web")

    assert (endpoint.oauth.client_id, endpoint.oauth.client_secret, endpoint.timeout_s) == ("a", "secret-value", 7)
    assert "secret-value" not in repr(endpoint)
