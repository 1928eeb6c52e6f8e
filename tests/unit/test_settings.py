import re
from pathlib import Path

import pytest

from plugin.errors import InputError
from plugin.settings import Settings, load_settings

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


def test_only_settings_that_change_results_change_their_identity():
    default = Settings()

    assert Settings(port=1).results_sha256 == default.results_sha256
    assert Settings(max_frontals=1).results_sha256 != default.results_sha256


def test_the_service_goes_by_its_public_name_and_those_allowed():
    settings = Settings(public_url="https://sightline.hospital.example:8443/x", allowed_hosts="sightline, archive-side")

    assert settings.host_names == ("sightline.hospital.example", "sightline", "archive-side")
    assert Settings().host_names == ()
