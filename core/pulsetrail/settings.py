"""Everything that can be adjusted, with unit, default and range.

One class for all roles, read only by composition roots (``app.py``, ``cli/``). Values come from the environment with
the prefix ``PULSETRAIL_`` (``DATABASE_URL`` and ``LOKI_URL`` also without it) and from a ``.env`` file.
"""

from __future__ import annotations

from enum import StrEnum
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from limits import parse_many
from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from pulsetrail.errors import SettingsError

PREFIX = "PULSETRAIL_"
_List = Annotated[tuple[str, ...], NoDecode]


class AuthMode(StrEnum):
    """How a client proves who it is at the handshake."""

    NONE = "none"
    TICKET = "ticket"
    JWT = "jwt"


class JournalSync(StrEnum):
    """What "durable" means for the journal."""

    FULL = "full"
    NORMAL = "normal"


def default_data_dir() -> Path:
    """``.pulsetrail`` in the working directory."""
    return Path(".pulsetrail")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on ``host``."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _is_url(text: str, *schemes: str) -> bool:
    """Whether the text is a URL of one of the schemes; each of its hosts, which Postgres may have several of, with a
    port that can be one."""
    try:
        for host in urlsplit(text).netloc.rpartition("@")[2].split(","):
            _ = urlsplit(f"//{host}").port  # raises for what is no port
    except ValueError:
        return False
    return text.startswith(tuple(f"{scheme}://" for scheme in schemes))


def _is_public_key(pem: str) -> bool:
    """Whether RS256 signatures can be checked with it."""
    # Imported here: it takes its time, and most instances check no such signatures.
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        return isinstance(load_pem_public_key(pem.encode()), RSAPublicKey)
    except (ValueError, UnsupportedAlgorithm):
        return False


def _unprefixed(name: str) -> Any:
    return AliasChoices(f"{PREFIX}{name}".lower(), name.lower())


class Settings(BaseSettings):
    """See the module; each field's description is what ``pulsetrail config`` and ``.env.example`` show."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        allow_inf_nan=False,
        populate_by_name=True,
    )

    # Where
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    data_dir: Path = Field(
        default_factory=default_data_dir,
        description="Directory of journals, locks and the embedded database.",
    )
    workers: int = Field(1, ge=1, le=64, description="Gateway processes, each with its own journal.")
    node_name: str = Field(
        "", pattern=r"^[A-Za-z0-9._-]{0,48}$", description="Name of this node; empty: one is made and kept."
    )
    database_url: SecretStr | None = Field(
        None,
        validation_alias=_unprefixed("DATABASE_URL"),
        description="PostgreSQL 14 to 18, postgresql://user:password@host/name; empty: embedded.",
    )

    # The event log
    log_shards: int = Field(4, ge=1, le=64, description="Shards of the log; fixed at the first migration.")
    journal_sync: JournalSync = Field(
        JournalSync.FULL,
        description="full: durable means fsynced; normal: survives a crash of the process only.",
    )
    journal_max_bytes: int = Field(
        1 << 30, ge=1 << 20, description="Cap of one process's journal, WAL included, in bytes."
    )
    retention_days: int = Field(30, ge=1, le=3650, description="Days that events are kept.")
    archive_dir: Path | None = Field(
        None, description="Directory that gets a partition's events as JSON lines before they are dropped."
    )
    node_lease: float = Field(
        15.0, ge=1, le=600, description="Seconds after which a silent node's connections are ended."
    )

    # Connections
    heartbeat_interval: float = Field(30.0, ge=0.2, le=3600, description="Seconds between heartbeats.")
    heartbeat_miss_limit: int = Field(2, ge=1, le=100, description="Misses after which a connection is stale.")
    idle_timeout: float = Field(
        600.0, ge=0.5, le=86400, description="Seconds without any answer after which a connection is closed."
    )
    tcp_user_timeout: float = Field(
        60.0,
        ge=0,
        le=3600,
        description="Seconds until the kernel gives up on a dead path (TCP_USER_TIMEOUT); 0: its own.",
    )
    max_message_bytes: int = Field(16384, ge=128, le=1 << 20, description="Largest inbound message, in bytes.")
    send_buffer_bytes: int = Field(
        1 << 20,
        ge=4096,
        description="Unsent bytes at which a client that does not read is closed (slow_consumer).",
    )
    max_connections: int = Field(20_000, ge=1, description="Open connections of one process.")
    max_connections_per_address: int = Field(
        1_000, ge=1, description="Open connections of one address prefix and process."
    )
    handshake_rate: str = Field("60000/minute", description="Handshakes of one process, in limits notation.")
    handshake_rate_per_address: str = Field(
        "1000/minute", description="Handshakes of one address prefix and process, in limits notation."
    )
    drain_seconds: float = Field(5.0, ge=0, le=300, description="Seconds over which the sockets are closed on SIGTERM.")
    reconnect_spread: float = Field(
        10.0, ge=0, le=600, description="Seconds over which clients are told to come back after a go_away."
    )

    # Who may
    auth_mode: AuthMode = Field(AuthMode.NONE, description="none (loopback only), ticket or jwt.")
    allow_insecure: bool = Field(False, description="Listen beyond loopback although AUTH_MODE is none.")
    allowed_origins: _List = Field(
        (), description="Origins of pages that may connect and post telemetry, comma-separated; * for any."
    )
    trusted_proxies: _List = Field(
        (), description="Networks whose X-Forwarded-For counts, comma-separated, such as 10.0.0.0/8."
    )
    jwt_key: SecretStr | None = Field(
        None,
        description="HS256 secret or RS256 public key (PEM) of bearer tokens, for jwt and ticket.",
    )
    jwt_algorithm: str = Field("HS256", pattern="^(HS256|RS256)$", description="HS256 or RS256.")
    jwt_audience: str = Field("", description="Audience that a bearer token must name; empty: any.")
    ticket_key: SecretStr | None = Field(
        None, description="Secret that signs tickets; empty: one is made in the data directory."
    )
    ticket_seconds: float = Field(30.0, ge=1, le=3600, description="Seconds for which a ticket is good.")
    write_key: SecretStr | None = Field(None, description="Key that telemetry must carry; empty: none is asked.")
    publish_token: SecretStr | None = Field(
        None,
        description="Bearer token of POST /v1/updates; empty: publishing over HTTP is off beyond loopback.",
    )
    read_token: SecretStr | None = Field(
        None, description="Bearer token of the read API and /metrics beyond loopback; empty: loopback only."
    )

    # Collector
    telemetry_max_bytes: int = Field(
        262_144, ge=1024, le=16 << 20, description="Largest telemetry batch after decompression, in bytes."
    )
    telemetry_rate: str = Field("6000/minute", description="Telemetry batches of one process, in limits notation.")
    telemetry_rate_per_address: str = Field(
        "600/minute", description="Telemetry batches of one address prefix and process, in limits notation."
    )
    accept_reports: bool = Field(
        True, description="Take browsers' network reports; false answers 410, which unsubscribes them."
    )

    # Updates
    updates_ring: int = Field(1024, ge=1, le=1_000_000, description="Newest updates kept for clients that resume.")
    live_figures_interval: float = Field(
        1.0, ge=0, le=60, description="Seconds between the service's own figures on topic telemetry; 0: off."
    )
    breaker_failures: int = Field(5, ge=1, le=1000, description="Failures in a row that suspend the broadcast.")
    breaker_seconds: float = Field(
        10.0, ge=0.1, le=3600, description="Seconds that the broadcast stays suspended before one trial."
    )

    # Flaps
    flap_half_life: float = Field(900.0, ge=1, description="Seconds in which a flap penalty halves.")
    flap_penalty: int = Field(1000, ge=1, description="Penalty of one flap.")
    flap_suppress: int = Field(2000, ge=1, description="Penalty above which a client is flapping.")
    flap_reuse: int = Field(750, ge=1, description="Penalty below which it has settled.")

    # Logs
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="debug, info, warning or error.")
    loki_url: SecretStr | None = Field(
        None,
        validation_alias=_unprefixed("LOKI_URL"),
        description="Loki's push address, such as http://loki:3100/loki/api/v1/push; empty: no Loki.",
    )
    loki_queue: int = Field(10_000, ge=1, le=1_000_000, description="Log lines kept while Loki is away.")

    @field_validator("allowed_origins", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for part in value:
            try:
                ip_network(part)
            except ValueError:
                raise ValueError("networks such as 10.0.0.0/8, comma-separated") from None
        return value

    @field_validator("allowed_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for part in value:
            scheme, _, rest = part.partition("://")
            if part != "*" and (scheme not in ("http", "https") or not rest or "/" in rest):
                raise ValueError("origins such as https://app.example.com, comma-separated, or *")
        return value

    @field_validator("handshake_rate", "handshake_rate_per_address", "telemetry_rate", "telemetry_rate_per_address")
    @classmethod
    def _rate(cls, value: str) -> str:
        try:
            allowed = all(part.amount > 0 and part.multiples > 0 for part in parse_many(value))
        except ValueError:
            allowed = False
        if not allowed:
            raise ValueError("a rate above 0 such as 1000/minute")
        return value

    @field_validator("database_url")
    @classmethod
    def _database(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _is_url(value.get_secret_value(), "postgresql", "postgres"):
            raise ValueError("a URL such as postgresql://user:password@host:5432/name")
        return value

    @field_validator("loki_url")
    @classmethod
    def _loki(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _is_url(value.get_secret_value(), "http", "https"):
            raise ValueError("a URL such as http://loki:3100/loki/api/v1/push")
        return value

    @model_validator(mode="after")
    def _together(self) -> Settings:
        if self.auth_mode is AuthMode.NONE and not is_loopback(self.host) and not self.allow_insecure:
            raise SettingsError(
                f"{PREFIX}AUTH_MODE",
                f"none while {PREFIX}HOST is {self.host}",
                f"ticket or jwt beyond loopback, or {PREFIX}ALLOW_INSECURE=true",
            )
        if self.auth_mode is not AuthMode.NONE and self.jwt_key is None:
            raise SettingsError(
                f"{PREFIX}JWT_KEY",
                f"empty while {PREFIX}AUTH_MODE is {self.auth_mode}",
                "the key of the bearer tokens",
            )
        key = self.jwt_key.get_secret_value() if self.jwt_key is not None else None
        if key is not None and self.jwt_algorithm == "RS256" and not _is_public_key(key):
            raise SettingsError(
                f"{PREFIX}JWT_KEY",
                f"no RSA public key while {PREFIX}JWT_ALGORITHM is RS256",
                "a public key in PEM, from BEGIN PUBLIC KEY to END PUBLIC KEY",
            )
        if self.flap_reuse >= self.flap_suppress:
            raise SettingsError(
                f"{PREFIX}FLAP_REUSE",
                str(self.flap_reuse),
                f"less than {PREFIX}FLAP_SUPPRESS ({self.flap_suppress})",
            )
        return self


_IN_WORDS: Final = {
    ("", "int_parsing"): "a whole number",
    ("", "int_from_float"): "a whole number",
    ("", "int_type"): "a whole number",
    ("", "float_parsing"): "a number",
    ("", "finite_number"): "a finite number",
    ("", "bool_parsing"): "true or false",
    ("log_level", "string_pattern_mismatch"): "debug, info, warning or error",
    ("jwt_algorithm", "string_pattern_mismatch"): "HS256 or RS256",
    ("node_name", "string_pattern_mismatch"): "up to 48 letters, digits, dots, underscores and hyphens, all ASCII",
}
"""What is allowed, where Pydantic would answer with its parser's words or a regular expression."""


def variable_of(field: str) -> str:
    """The environment variable of a field, as the documentation names it."""
    return field.upper() if field in ("database_url", "loki_url") else f"{PREFIX}{field.upper()}"


def load_settings(**overrides: Any) -> Settings:
    """Read the environment; ``overrides`` (command-line options) that are not ``None`` win.

    Raises:
        SettingsError: naming the first wrong setting, its value (masked when secret), what is allowed.
    """
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0]) if first["loc"] else "settings"
        field = field.removeprefix(PREFIX.lower())
        secret = field in Settings.model_fields and "SecretStr" in str(Settings.model_fields[field].annotation)
        value = "set (hidden)" if secret else repr(first["input"])
        allowed = _IN_WORDS.get((field, first["type"])) or _IN_WORDS.get(("", first["type"])) or first["msg"]
        allowed = allowed.removeprefix("Value error, ").removeprefix("Input should be ")
        raise SettingsError(variable_of(field), value, allowed) from None
