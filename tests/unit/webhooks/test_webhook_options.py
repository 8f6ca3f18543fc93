"""What the environment may name as a receiver; a wrong one is refused without being shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from remit.adapters.webhooks.options import options_of
from remit.core.errors import RemitError

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def of(url: str, secret: str = SECRET) -> dict[str, str]:
    return {"REMIT_WEBHOOK_URL": url, "REMIT_WEBHOOK_SECRET": secret}


@pytest.mark.parametrize(
    "url",
    ["https://example.com/x?y=z", "http://127.0.0.1:8080/", "http://[::1]:1/", "http://localhost/hook"],
)
def test_encrypted_or_on_this_machine(url: str) -> None:
    options = options_of(of(url))
    assert options is not None
    assert options.url == url


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/canary",
        "http://127.0.0.1.example.com/canary",
        "http://localhost@example.com/canary",
        "https://user:canary@example.com/",
        "https:///canary",
        "ftp://localhost/canary",
        "canary",
        "https://example.com:port/canary",
        "https://example.com/\r\ncanary",
        "http://localhost\\@example.com/canary",
        "http://[::1/canary",
    ],
)
def test_any_other_url_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(RemitError, match=r"usage\.invalid") as raised:
        options_of(of(url))
    assert "canary" not in str(raised.value)


def test_a_secret_is_required_and_may_stand_in_a_file(tmp_path: Path) -> None:
    url = "https://example.com/"
    assert options_of({}) is None
    for secret in ("", "canary", "whsec_canary"):
        with pytest.raises(RemitError, match=r"usage\.invalid") as raised:
            options_of(of(url, secret))
        assert "canary" not in str(raised.value)
    path = tmp_path / "secret"
    environment = {"REMIT_WEBHOOK_URL": url, "REMIT_WEBHOOK_SECRET_FILE": str(path)}
    with pytest.raises(RemitError, match="cannot be read"):
        options_of(environment)
    path.write_text(f"{SECRET}\n{SECRET}\n")
    options = options_of(environment)
    assert options is not None
    assert options.secrets == (SECRET, SECRET)
    assert SECRET not in repr(options)
