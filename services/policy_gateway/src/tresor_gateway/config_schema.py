"""The shape of the configuration file: every key, its type, its range and its default."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Text = Annotated[str, Meta(min_length=1, max_length=512)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$")]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Size = Annotated[int, Meta(ge=1024, le=1 << 31)]
# Ed25519 is what RFC 9864 calls EdDSA with that curve; providers still use both names.
Algorithm = Literal[
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
    "Ed25519",
]
Action = Literal["allow", "flag", "mask", "block"]
Judgement = Literal["allow", "flag", "block"]
EndpointName = Literal[
    "models", "chat.completions", "completions", "messages", "responses", "embeddings", "rerank"
]


class Section(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A mapping in the file; an unknown key is an error."""


class Listen(Section, frozen=True, kw_only=True):
    """Where clients come in: a directory for one socket per worker, or a loopback address."""

    sockets: Text | None = None
    tcp: Text | None = None


class Admin(Section, frozen=True, kw_only=True):
    """Where metrics and health are read; never on the clients' listener."""

    socket: Text | None = None
    tcp: Text | None = None


class Jwks(Section, frozen=True, kw_only=True):
    """The identity provider's signing keys (exactly one of ``url`` and ``file``)."""

    url: Text | None = None
    file: Text | None = None
    ca_file: Text | None = None
    crl_file: Text | None = None
    cache_file: Text | None = None
    refresh_seconds: Seconds = 300.0
    max_age_seconds: Annotated[float, Meta(gt=0, le=604_800)] = 86_400.0
    cooldown_seconds: Seconds = 30.0
    timeout_seconds: Seconds = 5.0


class Revocations(Section, frozen=True, kw_only=True):
    """Where processes share what was logged out, and the longest life of a token."""

    file: Text
    keep_seconds: Annotated[float, Meta(ge=60, le=604_800)] = 86_400.0


class Identity(Section, frozen=True, kw_only=True):
    """What makes an access token acceptable."""

    issuer: Text
    audience: Text
    jwks: Jwks
    algorithms: Annotated[list[Algorithm], Meta(min_length=1)] = field(
        default_factory=lambda: ["RS256"]
    )
    token_types: Annotated[list[Text], Meta(min_length=1)] = field(
        default_factory=lambda: ["at+jwt", "jwt"]
    )
    groups_claim: Text = "groups"
    tenant_claim: Text | None = None
    clock_skew_seconds: Annotated[float, Meta(ge=0, le=60)] = 30.0
    cache_seconds: Annotated[float, Meta(ge=0, le=60)] = 60.0
    cache_entries: Count = 10_000
    revocations: Revocations | None = None


class Keys(Section, frozen=True, kw_only=True):
    """Files with the site's own secrets (32 bytes or more each)."""

    pseudonym_file: Text
    cache_salt_file: Text


class Upstream(Section, frozen=True, kw_only=True):
    """How engines are reached."""

    ca_file: Text | None = None
    cert_file: Text | None = None
    key_file: Text | None = None
    connect_seconds: Seconds = 2.0
    first_byte_seconds: Seconds = 120.0
    idle_seconds: Seconds = 60.0
    total_seconds: Seconds = 600.0
    max_idle_connections: Count = 64
    idle_connection_seconds: Seconds = 4.0
    cooldown_seconds: Seconds = 1.0
    cooldown_max_seconds: Seconds = 30.0
    probe_seconds: Annotated[float, Meta(ge=0, le=3600)] = 10.0
    probe_timeout_seconds: Seconds = 8.0
    affinity_slack: Annotated[int, Meta(ge=0, le=10_000)] = 4
    max_response_bytes: Size = 64 << 20


class Replica(Section, frozen=True, kw_only=True):
    """One engine that serves a model; ``ca_file`` if it is not of those of ``upstream``.

    With ``variant`` it serves something else under the model's name, such as a new revision that
    a share of the conversations tries: that name and this ``artefact_digest`` are recorded.
    """

    url: Text
    ca_file: Text | None = None
    served_name: Name | None = None
    variant: Name | None = None
    artefact_digest: Text | None = None
    weight: Annotated[int, Meta(ge=0, le=1000)] = 100
    max_requests: Count | None = None


class Model(Section, frozen=True, kw_only=True):
    """A model as users name it."""

    name: Name
    task: Literal["chat", "embedding", "rerank", "moderation"]
    replicas: Annotated[list[Replica], Meta(min_length=1)]
    aliases: list[Name] = []
    context_tokens: Annotated[int, Meta(ge=1)] | None = None
    artefact_digest: Text | None = None
    affinity: bool = True
    fallback: Name | None = None


class RouteRule(Section, frozen=True, kw_only=True):
    """All conditions that are given must hold."""

    model: Name
    groups: list[Text] | None = None
    min_characters: Annotated[int, Meta(ge=0)] | None = None
    max_characters: Annotated[int, Meta(ge=0)] | None = None
    languages: list[Literal["de", "en"]] | None = None
    hints: list[Literal["tools", "json", "code"]] | None = None


class Route(Section, frozen=True, kw_only=True):
    """A name that stands for the model of the first rule that fits."""

    name: Name
    default: Name
    rules: list[RouteRule] = []


class UserLimits(Section, frozen=True, kw_only=True):
    """What one subject of the group may use; tokens are prompt and answer together."""

    requests_per_minute: Count | None = None
    tokens_per_minute: Annotated[int, Meta(ge=1)] | None = None
    concurrent_streams: Count | None = None
    context_tokens: Annotated[int, Meta(ge=1)] | None = None
    daily_tokens: Annotated[int, Meta(ge=1)] | None = None


class AccessRule(Section, frozen=True, kw_only=True):
    """An IdP group, or a service account, may use these models on these endpoints.

    A service account is known by the client's own token (``client_id``, and ``subject`` where the
    provider does not write the client's id there), or by a name in its client certificate.
    """

    group: Text | None = None
    service_account: Name | None = None
    client_id: Text | None = None
    subject: Text | None = None
    certificate: Annotated[str, Meta(pattern=r"^(DNS:|URI:|[A-Z]+=).+", max_length=512)] | None = (
        None
    )
    models: Annotated[list[Name], Meta(min_length=1)]
    endpoints: Annotated[list[EndpointName], Meta(min_length=1)]
    limits: UserLimits | None = None
    strict: bool = False

    @property
    def holder(self) -> str:
        """Whom the rule is about, for messages."""
        if self.group is not None:
            return f"group {self.group!r}"
        return f"service account {self.service_account!r}"


class Limits(Section, frozen=True, kw_only=True):
    """Bounds per request, per connection and per worker."""

    max_header_bytes: Size = 32 << 10
    max_body_bytes: Size = 8 << 20
    max_output_tokens: Count = 4096
    max_choices: Annotated[int, Meta(ge=1, le=128)] = 4
    max_inputs: Annotated[int, Meta(ge=1, le=4096)] = 256
    max_connections: Count = 4096
    max_buffered_bytes: Size = 256 << 20
    max_concurrent_requests: Count = 1024
    receive_seconds: Seconds = 30.0
    keepalive_seconds: Seconds = 75.0
    drain_seconds: Seconds = 30.0


class Incoming(Section, frozen=True, kw_only=True):
    """What findings in texts on their way to a model mean."""

    email: Action = "mask"
    iban: Action = "mask"
    card: Action = "mask"
    phone: Action = "mask"
    ip: Action = "mask"
    secret: Action = "mask"  # noqa: S105 - what to do, not a secret
    injection: Judgement = "block"


class Outgoing(Section, frozen=True, kw_only=True):
    """What findings in answers mean."""

    email: Action = "mask"
    iban: Action = "mask"
    card: Action = "mask"
    phone: Action = "mask"
    ip: Action = "mask"
    secret: Action = "mask"  # noqa: S105 - what to do, not a secret
    output_schema: Judgement = "block"


class Guardrails(Section, frozen=True, kw_only=True):
    """The stages that texts pass, and the bounds of their work."""

    request: Incoming = Incoming()
    context: Incoming = Incoming()
    response: Outgoing = Outgoing()
    restore: bool = True
    repair: bool = True
    deadline_milliseconds: Annotated[int, Meta(ge=1, le=10_000)] = 250
    max_prompt_characters: Annotated[int, Meta(ge=1, le=1 << 26)] = 2_000_000


class Classifier(Section, frozen=True, kw_only=True):
    """A model of the catalogue that judges texts, what it is asked, and what its verdicts mean."""

    model: Name
    kind: Literal["llama-guard", "granite-guardian", "moderations", "instruct"]
    request: bool = True
    response: bool = True
    categories: dict[Text, Judgement] = {}
    default: Literal["flag", "block"] = "block"
    risk: Name = "harm"
    policies: dict[Text, Text] = {}
    timeout_milliseconds: Annotated[int, Meta(ge=10, le=60_000)] = 5000
    max_concurrent: Count = 16
    max_waiting: Annotated[int, Meta(ge=0, le=100_000)] = 256
    window_characters: Annotated[int, Meta(ge=500, le=200_000)] = 4000
    max_windows: Annotated[int, Meta(ge=1, le=1000)] = 32
    stream_characters: Annotated[int, Meta(ge=1, le=200_000)] = 400


class Usage(Section, frozen=True, kw_only=True):
    """Where workers share their counts of what is used."""

    file: Text | None = None


class Audit(Section, frozen=True, kw_only=True):
    """Where decisions are recorded."""

    directory: Text
    host: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    strict: bool = False
    strict_tenants: list[Text] = []
    commit_milliseconds: Annotated[int, Meta(ge=1, le=50)] = 20
    deadline_seconds: Annotated[float, Meta(ge=0.1, le=600)] = 5.0
    max_file_bytes: Size = 64 << 20
    max_pending_records: Count = 100_000


class ContentRule(Section, frozen=True, kw_only=True):
    """What is kept of requests that fit everything given; the first fitting rule decides."""

    keep: Literal["none", "masked", "full"]
    groups: list[Text] | None = None
    endpoints: list[EndpointName] | None = None
    models: list[Name] | None = None


class Content(Section, frozen=True, kw_only=True):
    """Where prompts and answers are kept, of whom, and for how long."""

    directory: Text
    key_file: Text
    rules: Annotated[list[ContentRule], Meta(min_length=1)]
    retention_days: Annotated[int, Meta(ge=1, le=3660)]
    min_free_bytes: Annotated[int, Meta(ge=0)] = 1 << 30
    max_pending_bytes: Size = 64 << 20
    commit_milliseconds: Annotated[int, Meta(ge=1, le=50)] = 10
    deadline_seconds: Annotated[float, Meta(ge=0.1, le=600)] = 5.0


class Traces(Section, frozen=True, kw_only=True):
    """The site's collector (OTLP over HTTP), and the share of requests it gets."""

    endpoint: Text
    ca_file: Text | None = None
    cert_file: Text | None = None
    key_file: Text | None = None
    sampling: Annotated[float, Meta(ge=0, le=1)] = 0.1
    trust_incoming: bool = True
    timeout_seconds: Annotated[float, Meta(gt=0, le=30)] = 5.0
    max_queued: Count = 4096


class Portal(Section, frozen=True, kw_only=True):
    """The page for people in a browser, and where the provider tells of logouts.

    ``url`` is the gateway's public address; the provider knows it with ``/callback`` and, for
    logouts, ``/backchannel-logout``. Trust in the provider is that of ``identity.jwks`` unless
    ``ca_file`` says otherwise.
    """

    url: Text
    socket: Text | None = None
    tcp: Text | None = None
    client_id: Text
    client_secret_file: Text | None = None
    authorization_endpoint: Text
    token_endpoint: Text
    end_session_endpoint: Text | None = None
    ca_file: Text | None = None
    crl_file: Text | None = None
    scopes: Annotated[list[Text], Meta(min_length=1)] = field(default_factory=lambda: ["openid"])
    resource: Text | None = None
    name_claim: Text = "name"
    session_seconds: Annotated[float, Meta(ge=60, le=86_400)] = 28_800.0
    idle_seconds: Annotated[float, Meta(ge=60, le=86_400)] = 1800.0
    max_sessions: Count = 10_000
    timeout_seconds: Seconds = 5.0


class Config(Section, frozen=True, kw_only=True):
    """The whole file."""

    listen: Listen
    admin: Admin
    identity: Identity
    models: Annotated[list[Model], Meta(min_length=1)]
    access: list[AccessRule]
    routes: list[Route] = []
    audit: Audit
    upstream: Upstream = Upstream()
    limits: Limits = Limits()
    guardrails: Guardrails = Guardrails()
    classifiers: Annotated[list[Classifier], Meta(max_length=8)] = []
    usage: Usage = Usage()
    content: Content | None = None
    traces: Traces | None = None
    keys: Keys | None = None
    portal: Portal | None = None
    workers: Annotated[int, Meta(ge=1, le=128)] = 1
    pid_file: Text | None = None
