"""`pulsetrail config` tells what is in force, and a wrong setting costs one line and exit 2."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pulsetrail.cli import run
from pulsetrail.cli.settings_view import HIDDEN, example
from pulsetrail.settings import Settings, variable_of

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def pulsetrail(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run the command in an empty directory and return its exit code, output and error output."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(variable_of(name), raising=False)
        monkeypatch.delenv(f"PULSETRAIL_{name.upper()}", raising=False)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = run(arguments)
        output = capfd.readouterr()
        return code, output.out, output.err

    return call


def settings_of(output: str) -> dict[str, dict[str, str]]:
    return {entry["variable"]: entry for entry in json.loads(output)}


def test_every_setting_is_shown_with_its_meaning(pulsetrail: Run) -> None:
    code, out, err = pulsetrail("config", "--json")
    assert (code, err) == (0, "")
    shown = settings_of(out)
    assert list(shown) == [variable_of(name) for name in Settings.model_fields]
    assert all(entry["description"] for entry in shown.values())


def test_it_says_where_each_value_came_from(pulsetrail: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PULSETRAIL_PORT=9000\nPULSETRAIL_WORKERS=3\n")
    monkeypatch.setenv("PULSETRAIL_WORKERS", "2")
    monkeypatch.setenv("PULSETRAIL_HOST", "")
    shown = settings_of(pulsetrail("config", "--json")[1])
    assert (shown["PULSETRAIL_PORT"]["value"], shown["PULSETRAIL_PORT"]["source"]) == ("9000", ".env")
    assert (shown["PULSETRAIL_WORKERS"]["value"], shown["PULSETRAIL_WORKERS"]["source"]) == ("2", "environment")
    assert (shown["PULSETRAIL_HOST"]["value"], shown["PULSETRAIL_HOST"]["source"]) == ("127.0.0.1", "default")


@pytest.mark.parametrize("form", [("config",), ("config", "--json")])
def test_no_secret_is_ever_printed(pulsetrail: Run, monkeypatch: pytest.MonkeyPatch, form: tuple[str, ...]) -> None:
    for name, field in Settings.model_fields.items():
        if "SecretStr" in str(field.annotation) and not name.endswith("_url"):
            monkeypatch.setenv(variable_of(name), "s3cr3t")
    monkeypatch.setenv("DATABASE_URL", "postgresql://someone:s3cr3t@db.internal:5433/trail?password=s3cr3t")
    monkeypatch.setenv("LOKI_URL", "https://s3cr3t:s3cr3t@loki.internal/push")
    code, out, _ = pulsetrail(*form)
    assert code == 0
    assert "s3cr3t" not in out
    assert "db.internal:5433/trail" in out
    assert HIDDEN in out


def test_output_to_a_pipe_has_no_colours_and_breaks_no_row(pulsetrail: Run) -> None:
    _, out, _ = pulsetrail("config")
    assert "\x1b" not in out
    row = next(line for line in out.splitlines() if "HEARTBEAT_INTERVAL" in line)
    assert "Seconds between heartbeats." in row


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("PULSETRAIL_PORT", "99999", "PULSETRAIL_PORT is '99999'"),
        ("PULSETRAIL_WORKERS", "many", "PULSETRAIL_WORKERS is 'many'"),
        ("PULSETRAIL_HANDSHAKE_RATE", "often", "a rate above 0 such as 1000/minute"),
        ("PULSETRAIL_HANDSHAKE_RATE", "0/minute", "a rate above 0 such as 1000/minute"),
        ("PULSETRAIL_TRUSTED_PROXIES", "10.0.0.0/99", "networks such as 10.0.0.0/8"),
        ("PULSETRAIL_HOST", "192.0.2.1", "PULSETRAIL_AUTH_MODE"),
        ("PULSETRAIL_AUTH_MODE", "jwt", "PULSETRAIL_JWT_KEY"),
    ],
)
@pytest.mark.parametrize("command", ["config", "serve", "gateway", "projector"])
def test_a_wrong_setting_is_named_in_one_line(
    pulsetrail: Run, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str, command: str, tmp_path: Path
) -> None:
    monkeypatch.setenv(variable, value)
    code, out, err = pulsetrail(command)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1, err
    assert said in err
    assert not list(tmp_path.iterdir()), "a wrong setting touches nothing"


def test_a_wrong_database_url_is_refused_without_showing_it(pulsetrail: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://root:s3cr3t@db/x")
    code, out, err = pulsetrail("config")
    assert code == 2
    assert "s3cr3t" not in out + err
    assert err.startswith("pulsetrail: DATABASE_URL is ")


@pytest.mark.parametrize(
    "url", ["postgresql://h:bad/x", "postgresql://[::1/x", "postgresql://h:70000/x", "postgresql://a:1,b:bad/x"]
)
def test_a_malformed_database_url_is_refused_in_one_line(
    pulsetrail: Run, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    code, out, err = pulsetrail("config")
    assert (code, out) == (2, "")
    assert err == (
        "pulsetrail: DATABASE_URL is set (hidden); allowed: a URL such as postgresql://user:password@host:5432/name.\n"
    )


@pytest.mark.parametrize("url", ["postgresql:///x?host=/tmp", "postgresql://a:1,b:2/x", "postgres://u:p@[::1]:5432/x"])
def test_every_form_of_a_database_url_that_postgres_knows_is_taken(
    pulsetrail: Run, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    code, _, err = pulsetrail("config")
    assert (code, err) == (0, "")


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("PULSETRAIL_LOG_LEVEL", "loud", "debug, info, warning or error"),
        ("PULSETRAIL_JWT_ALGORITHM", "none", "HS256 or RS256"),
        ("PULSETRAIL_NODE_NAME", "a b", "up to 48 letters, digits, dots, underscores and hyphens, all ASCII"),
        ("PULSETRAIL_PORT", "abc", "a whole number"),
        ("PULSETRAIL_PORT", "1.5", "a whole number"),
        ("PULSETRAIL_NODE_LEASE", "long", "a number"),
        ("PULSETRAIL_NODE_LEASE", "nan", "a finite number"),
        ("PULSETRAIL_NODE_LEASE", "inf", "a finite number"),
        ("PULSETRAIL_ALLOW_INSECURE", "maybe", "true or false"),
    ],
)
def test_what_is_allowed_is_said_without_a_regular_expression(
    pulsetrail: Run, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, allowed: str
) -> None:
    monkeypatch.setenv(variable, value)
    code, _, err = pulsetrail("config")
    assert (code, err) == (2, f"pulsetrail: {variable} is {value!r}; allowed: {allowed}.\n")


def public_pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def test_rs256_needs_the_public_key_of_an_rsa_pair(pulsetrail: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULSETRAIL_JWT_ALGORITHM", "RS256")
    for wrong in ("s3cr3t", public_pem(ec.generate_private_key(ec.SECP256R1()))):
        monkeypatch.setenv("PULSETRAIL_JWT_KEY", wrong)
        code, out, err = pulsetrail("config")
        assert (code, out) == (2, "")
        assert err.startswith("pulsetrail: PULSETRAIL_JWT_KEY is no RSA public key")
        assert err.count("\n") == 1
        assert wrong not in err
    monkeypatch.setenv("PULSETRAIL_JWT_KEY", public_pem(rsa.generate_private_key(65537, 2048)))
    assert pulsetrail("config")[0] == 0


def test_the_example_file_is_what_the_settings_say() -> None:
    kept = Path(__file__).parents[2] / ".env.example"
    assert kept.read_text() == example(), "run: pulsetrail config --example > .env.example"


def test_the_example_with_every_line_uncommented_is_the_defaults(pulsetrail: Run, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("\n".join(assignments(example())))
    code, out, err = pulsetrail("config", "--json")
    assert code == 0, err
    assert [entry["value"] for entry in json.loads(out)] == [entry["default"] for entry in json.loads(out)]


def assignments(text: str) -> list[str]:
    lines = [line.removeprefix("# ") for line in text.splitlines()]
    return [line for line in lines if re.match(r"(PULSETRAIL_\w+|DATABASE_URL|LOKI_URL)=", line)]
