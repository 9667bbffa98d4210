"""Each mistake is told with its file, line, key, the value seen and what to write instead."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tresor.inventory.problems import Problem

from .conftest import Spoil

SITE, MODELS = "group_vars/all/site.yml", "group_vars/all/models.yml"
ACCESS, FLOWS = "group_vars/all/access.yml", "group_vars/all/flows.yml"
RETENTION, SLO = "group_vars/all/retention.yml", "group_vars/all/slo.yml"
GUARDRAILS, HOSTS = "group_vars/all/guardrails.yml", "hosts.yml"
WIRING = "group_vars/all/wiring.yml"
VECTOR = (
    "        vector1:\n          ansible_host: 198.51.100.40\n"
    '          tresor_ipv4: 198.51.100.40\n          tresor_ipv6: "2001:db8:51::40"\n'
)


def moderations(model: str, external: str) -> str:
    entry = f"{{model: {model}, kind: moderations, external: {external}, ca_file: /etc/ca.pem}}"
    return f"  classifiers: [{entry}]\n  restore: true"


# file, text, its replacement, key, what the message says, value seen, remedy
CASES = {
    "company-certificate-without-root": (
        SITE,
        "{source: site, ca_file: /etc/tresor/trust/company-ca.pem}",
        "{source: company}",
        "tresor_site.user_certificate.ca_file",
        "missing key",
        "nothing",
        "write ca_file",
    ),
    "unknown-source-of-certificate": (
        SITE,
        "{source: site,",
        "{source: letsencrypt,",
        "tresor_site.user_certificate.source",
        "is not one of the allowed values",
        '"letsencrypt"',
        "company",
    ),
    "answers-that-nobody-can-continue": (
        MODELS,
        "{rto_seconds: 60, rpo: in_flight}",
        "{rto_seconds: 60, rpo: none}",
        "tresor_models[0].recovery.rpo",
        "no other engine can go on with an answer",
        '"none"',
        "write in_flight",
    ),
    "nothing-lost-with-one-instance": (
        MODELS,
        "{rto_seconds: 420, rpo: in_flight}",
        "{rto_seconds: 420, rpo: none}",
        "tresor_models[1].recovery.rpo",
        "has one instance, so what it was answering is lost",
        '"none"',
        "place a second instance, or write in_flight",
    ),
    "recovery-faster-than-a-start": (
        MODELS,
        "{rto_seconds: 420, rpo: in_flight}",
        "{rto_seconds: 10, rpo: in_flight}",
        "tresor_models[1].recovery.rto_seconds",
        "one instance, and its start takes 60 s or more",
        "10",
        "place a second instance, or write 60 or more",
    ),
    "recovery-without-rpo": (
        MODELS,
        "{rto_seconds: 420, rpo: in_flight}",
        "{rto_seconds: 420}",
        "tresor_models[1].recovery.rpo",
        "missing key",
        "nothing",
        "write rpo",
    ),
    "rule-about-nobody": (
        ACCESS,
        "group: llm-embedding\n",
        "limits: {daily_tokens: 5}\n",
        "tresor_access[1]",
        "says not whom it is about",
        "",
        "write group, or service_account",
    ),
    "account-without-proof": (
        ACCESS,
        "group: llm-embedding\n",
        "service_account: nightly\n",
        "tresor_access[1].service_account",
        "nothing says how the account is known",
        '"nightly"',
        "write client_id, or certificate",
    ),
    "proof-of-a-group": (
        ACCESS,
        "group: llm-embedding\n",
        "group: llm-embedding\n    client_id: batch\n",
        "tresor_access[1].client_id",
        "belongs to a service account",
        '"batch"',
        "remove client_id",
    ),
    "subject-without-client": (
        ACCESS,
        "group: llm-embedding\n",
        "service_account: nightly\n    certificate: DNS:a.example\n    subject: x\n",
        "tresor_access[1].subject",
        "means nothing without client_id",
        '"x"',
        "write client_id",
    ),
    "certificate-of-any-host": (
        ACCESS,
        "group: llm-embedding\n",
        'service_account: nightly\n    certificate: "DNS:*.example"\n',
        "tresor_access[1].certificate",
        "wrong form",
        "DNS:*.example",
        "DNS:batch1.company.example",
    ),
    "portal-without-openid": (
        SITE,
        "    groups_claim: groups",
        "    portal: {client_id: p, authorization_uri: https://a.example/a, "
        "token_uri: https://a.example/t, scopes: [llm]}\n    groups_claim: groups",
        "tresor_site.identity.portal.scopes",
        "does not fit",
        "llm",
        "openid among them",
    ),
    "unknown-key": (
        SITE,
        "  api_name:",
        "  api_nam: x\n  api_name:",
        "tresor_site.api_nam",
        "unknown key",
        '"api_nam"',
        "did you mean 'api_name'?",
    ),
    "missing-key": (
        SITE,
        "  level: lab\n",
        "",
        "tresor_site.level",
        "missing key",
        "nothing",
        "write level: lab or production",
    ),
    "wrong-type": (
        GUARDRAILS,
        "1048576",
        "much",
        "tresor_guardrails.limits.max_body_bytes",
        "wrong type",
        '"much"',
        "1024 to 67108864",
    ),
    "out-of-range": (
        SITE,
        "clock_skew_seconds: 30",
        "clock_skew_seconds: 300",
        "tresor_site.identity.clock_skew_seconds",
        "above 60",
        "300",
        "0 to 60 seconds",
    ),
    "not-one-of": (
        FLOWS,
        "proto: udp",
        "proto: dup",
        "tresor_flows[9].proto",
        "not one of",
        '"dup"',
        "did you mean 'udp'?",
    ),
    "no-address": (
        SITE,
        "ipv4: 203.0.113.10",
        "ipv4: 203.0.113.999",
        "tresor_site.externals.canary.ipv4",
        "wrong form",
        "203.0.113.999",
        "an IPv4 address",
    ),
    "host-bits": (
        SITE,
        "198.51.100.0/25",
        "198.51.100.1/25",
        "tresor_site.subnets.site.ipv4",
        "wrong form",
        "198.51.100.1/25",
        "without host bits",
    ),
    "plain-http": (
        SITE,
        "issuer: https",
        "issuer: http",
        "tresor_site.identity.issuer",
        "wrong form",
        "http://idp",
        "an https URL",
    ),
    "weak-algorithm": (
        SITE,
        "[RS256]",
        "[HS256]",
        "tresor_site.identity.algorithms[0]",
        "not one of",
        '"HS256"',
        "RS256",
    ),
    "unknown-variable": (
        ACCESS,
        "tresor_access:",
        "tresor_acces: []\ntresor_access:",
        "tresor_acces",
        "not a variable of this file",
        '"tresor_acces"',
        "tresor_access",
    ),
    "doubled-key": (
        SLO,
        "  window_days: 30\n",
        "  window_days: 30\n  window_days: 31\n",
        "tresor_slo.window_days",
        "stands twice, first at line 5",
        '"window_days"',
        "keep one",
    ),
    "jinja": (
        SITE,
        "name: lab",
        'name: "{{ x }}"',
        "tresor_site.name",
        "Jinja",
        "{{ x }}",
        "write the value itself",
    ),
    "tag": (
        SITE,
        "name: lab",
        "name: !vault lab",
        "tresor_site.name",
        "vault",
        '"lab"',
        "plain data",
    ),
    "date": (
        SITE,
        "name: lab",
        "name: 2026-11-23",
        "tresor_site.name",
        "timestamp",
        "2026-11-23",
        "in quotes",
    ),
    "base-60": (
        FLOWS,
        'ports: "22"',
        "ports: 22:33",
        "tresor_flows[0].ports",
        "ambiguous",
        "22:33",
        "in quotes",
    ),
    "not-yaml": (
        SITE,
        "tresor_site:",
        "tresor_site: [",
        "(whole file)",
        "is not YAML",
        "",
        "mend the indentation",
    ),
    "alias": (
        SITE,
        "[RS256]",
        "&a [RS256]\n    again: *a",
        "(whole file)",
        "YAML alias",
        "*alias",
        "write the value out",
    ),
    "unknown-group": (
        HOSTS,
        "    vector:",
        "    vectors:",
        "all.children.vectors",
        "unknown group",
        '"vectors"',
        "did you mean 'vector'?",
    ),
    "group-without-host": (
        HOSTS,
        VECTOR,
        "",
        "all.children.vector",
        "group without a host",
        "hosts",
        "or remove the group",
    ),
    "group-all": (
        HOSTS,
        "        vector1:",
        "        vector:",
        "all.children.vector.hosts.vector",
        "name of a group",
        '"vector"',
        "vector1",
    ),
    "host-variable": (
        HOSTS,
        "tresor_ipv4: 198.51.100.31",
        "tresor_ip4: 198.51.100.31",
        "all.children.gpu.hosts.gpu1.tresor_ip4",
        "unknown host variable",
        "ip4",
        "tresor_ipv4",
    ),
    "host-outside": (
        HOSTS,
        "tresor_ipv4: 198.51.100.31",
        "tresor_ipv4: 198.51.100.231",
        "all.children.gpu.hosts.gpu1.tresor_ipv4",
        "outside",
        "198.51.100.231",
        "100.0/25",
    ),
    "address-twice": (
        HOSTS,
        'tresor_ipv6: "2001:db8:51::32"',
        'tresor_ipv6: "2001:db8:51::31"',
        "all.children.gpu.hosts.gpu2.tresor_ipv6",
        "address of gpu1",
        "::31",
        "used once",
    ),
    "ansible-host": (
        HOSTS,
        "ansible_host: 198.51.100.31",
        "ansible_host: 198.51.100.33",
        "all.children.gpu.hosts.gpu1.ansible_host",
        "not an address of this host",
        "33",
        "100.31",
    ),
    "overlap": (
        SITE,
        "198.51.100.128/25",
        "198.51.100.64/26",
        "tresor_site.subnets.company.ipv4",
        "overlaps site",
        "100.64/26",
        "share no address",
    ),
    "name-twice": (
        SITE,
        "name: ntp.company.example",
        "name: idp.company.example",
        "tresor_site.externals.ntp.name",
        "also the name of the external idp",
        "idp",
        "another",
    ),
    "unknown-time-server": (
        SITE,
        "servers: [ntp]",
        "servers: [npt]",
        "tresor_site.time.servers[0]",
        "unknown external",
        '"npt"',
        "did you mean 'ntp'?",
    ),
    "url-of-nobody": (
        SITE,
        "jwks_uri: https://idp.",
        "jwks_uri: https://keys.",
        "tresor_site.identity.jwks_uri",
        "no external",
        "https://keys",
        "idp.company.example",
    ),
    "external-is-host": (
        SITE,
        "ipv4: 203.0.113.10",
        "ipv4: 198.51.100.20",
        "tresor_site.externals.canary.ipv4",
        "managed host gateway1",
        "100.20",
        "outside",
    ),
    "two-gateways": (
        HOSTS,
        "        gateway1:",
        "        gateway0:\n        gateway1:",
        "tresor_site.api_address",
        "2 gateways need one shared address",
        "nothing",
        "write api_",
    ),
    "placed-nowhere": (
        MODELS,
        "groups: [gpu]",
        "groups: []",
        "tresor_models[0].placement",
        "smollm2-135m-instruct is placed on no host",
        "",
        "[gpu]",
    ),
    "placed-on-unknown-host": (
        MODELS,
        "hosts: []",
        "hosts: [gpu7]",
        "tresor_models[0].placement[0].hosts[0]",
        "unknown host",
        '"gpu7"',
        "did you mean 'gpu",
    ),
    "placed-on-unknown-group": (
        MODELS,
        "groups: [gpu]",
        "groups: [gpus]",
        "tresor_models[0].placement[0].groups[0]",
        "unknown group",
        '"gpus"',
        "gpu",
    ),
    "placed-off-gpu": (
        MODELS,
        "hosts: []",
        "hosts: [ops1]",
        "tresor_models[0].placement[0].hosts[0]",
        "no host of the group gpu",
        "ops1",
        "gpu1",
    ),
    "alias-clash": (
        MODELS,
        "aliases: [small]",
        "aliases: [smollm2-135m-instruct]",
        "tresor_models[0].aliases[0]",
        "already a name",
        "smollm2",
        "used once",
    ),
    "engine-option": (
        MODELS,
        "max_num_seqs: 16",
        "trust_remote_code: true",
        "tresor_models[0].engine.args.trust_remote_code",
        "runs code",
        "true",
        "remove it",
    ),
    "engine-typo": (
        MODELS,
        "max_num_seqs",
        "max_num_seq",
        "tresor_models[0].engine.args.max_num_seq",
        "not among",
        "16",
        "'max_num_seqs'?",
    ),
    "engine-environment": (
        MODELS,
        "VLLM_CPU_KVCACHE_SPACE",
        "VLLM_SERVER_DEV_MODE",
        "tresor_models[0].engine.env.VLLM_SERVER_DEV_MODE",
        "not among",
        '"1"',
        "VLLM_",
    ),
    "unknown-idp-group": (
        ACCESS,
        "group: llm-users",
        "group: llm-user",
        "tresor_access[0].group",
        "unknown IdP group",
        '"llm-user"',
        "did you mean 'llm-users'?",
    ),
    "unknown-model": (
        ACCESS,
        "models: [smollm2-135m",
        "models: [smollm-135m",
        "tresor_access[0].models[0]",
        "unknown model",
        "smollm-135m",
        "did you mean 'smollm2-",
    ),
    "endless-answer": (
        GUARDRAILS,
        "max_output_tokens: 1024",
        "max_output_tokens: 2048",
        "tresor_guardrails.limits.max_output_tokens",
        "2048 tokens for",
        "2048",
        "less than 2048",
    ),
    "short-retention": (
        RETENTION,
        "high_risk: false",
        "high_risk: true\n  #",
        "tresor_retention.decision_days",
        "too short",
        "182",
        "write 183 or more",
    ),
    "content-of-nobody": (
        RETENTION,
        "groups: [team-a]",
        "groups: [team-b]",
        "tresor_retention.content[0].groups[0]",
        "unknown group",
        "team-b",
        "did you mean 'team-a'",
    ),
    "content-masked-in-name-only": (
        GUARDRAILS,
        "response: {email: mask",
        "response: {email: flag",
        "tresor_retention.content[0].keep",
        "lets response.email pass unmasked",
        "masked",
        "write full",
    ),
    "classifier-that-is-no-model": (
        GUARDRAILS,
        "  restore: true",
        "  classifiers: [{model: smollm2, kind: llama-guard}]\n  restore: true",
        "tresor_guardrails.classifiers[0].model",
        "unknown model",
        "smollm2",
        "did you mean",
    ),
    "moderations-without-a-server": (
        GUARDRAILS,
        "  restore: true",
        "  classifiers: [{model: omni, kind: moderations}]\n  restore: true",
        "tresor_guardrails.classifiers[0].kind",
        "vLLM has no /v1/moderations",
        "moderations",
        "write external",
    ),
    "moderations-under-the-name-of-a-model": (
        GUARDRAILS,
        "  restore: true",
        moderations("small", "idp"),
        "tresor_guardrails.classifiers[0].model",
        "is a model of models.yml",
        "small",
        "take another kind",
    ),
    "moderations-of-an-unknown-server": (
        GUARDRAILS,
        "  restore: true",
        moderations("omni", "ipd"),
        "tresor_guardrails.classifiers[0].external",
        "unknown external",
        "ipd",
        "did you mean 'idp'",
    ),
    "moderations-without-a-port": (
        GUARDRAILS,
        "  restore: true",
        moderations("omni", "canary"),
        "tresor_guardrails.classifiers[0].external",
        "has no port",
        "canary",
        "write port in tresor_site.externals.canary",
    ),
    "moderations-without-a-flow": (
        GUARDRAILS,
        "  restore: true",
        moderations("omni", "siem"),
        "tresor_guardrails.classifiers[0].external",
        "no flow lets gateway1 reach the classifier's server",
        "siem",
        'write a flow from: [gateway] to: ["external:siem"]',
    ),
    "server-for-an-engines-classifier": (
        GUARDRAILS,
        "  restore: true",
        "  classifiers: [{model: small, kind: llama-guard, external: idp}]\n  restore: true",
        "tresor_guardrails.classifiers[0].external",
        "belongs to kind moderations",
        "idp",
        "remove external",
    ),
    "lonely-promise": (
        SLO,
        "availability_percent: 99",
        "availability_percent: 99.9",
        "tresor_slo.availability_percent",
        "one gateway host cannot",
        "99.9",
        "add a second",
    ),
    "unknown-endpoint": (
        FLOWS,
        "to: [gpu]",
        "to: [gpus]",
        "tresor_flows[5].to[0]",
        "unknown endpoint",
        '"gpus"',
        "gpu",
    ),
    "unknown-external": (
        FLOWS,
        "external:ntp",
        "external:ntq",
        "tresor_flows[9].to[0]",
        "unknown endpoint",
        "external:ntq",
        "'external:ntp'",
    ),
    "flow-to-canary": (
        FLOWS,
        "external:ntp",
        "external:canary",
        "tresor_flows[9].to[0]",
        "would open the canary",
        "external:canary",
        "name the servers",
    ),
    "flow-twice": (
        FLOWS,
        "name: store-apt",
        "name: store-root",
        "tresor_flows[2].name",
        "stands twice",
        "store-root",
        "a name of its own",
    ),
    "falling-range": (
        FLOWS,
        "8100:8199",
        "8199:8100",
        "tresor_flows[5].ports",
        "no port or range",
        "8199:8100",
        "rising range",
    ),
    "flow-of-strangers": (
        FLOWS,
        "to: [gateway]",
        'to: ["external:idp"]',
        "tresor_flows[3]",
        "no managed host",
        "users-api",
        "a group of hosts.yml",
    ),
    "locked-out": (
        FLOWS,
        "to: [site]",
        "to: [gpu]",
        "tresor_flows",
        "no flow lets bastion1 reach ops1 on tcp 22",
        "ssh",
        "from: [bastion]",
    ),
    "engine-out-of-reach": (
        MODELS,
        "port: 8100",
        "port: 8150",
        "tresor_models[0].placement[0].port",
        "no flow lets gateway1 reach gpu1",
        "8150",
        "flow",
    ),
    "concern-in-wiring": (
        WIRING,
        "ansible_user:",
        "tresor_slo: {}\nansible_user:",
        "tresor_slo",
        "is no wiring",
        "nothing",
        "group_vars/all/slo.yml",
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_mistake_is_told_with_place_value_and_remedy(
    case: tuple[str, ...], spoil: Spoil, problems: Callable[[], tuple[Problem, ...]]
) -> None:
    file, old, new, key, wrong, seen, fix = case
    if file == RETENTION:
        spoil(file, "183", "182")
    if key.endswith("port"):
        spoil(FLOWS, "8100:8199", "8100:8101")
    spoil(file, old, new)

    found = [problem for problem in problems() if problem.key == key and wrong in problem.wrong]

    assert found, "\n".join(map(str, problems()))
    elsewhere = {"tresor_site.api_address": SITE, "tresor_retention.content[0].keep": RETENTION}
    told = elsewhere.get(key, file)
    assert found[0].file == told
    assert seen in found[0].seen
    assert fix in found[0].fix
    assert re.fullmatch(r"[^:]+:\d+: .+: .+; saw .+; .+", str(found[0]))


def test_line_is_that_of_the_mistake(
    lab: Path, spoil: Spoil, problems: Callable[[], tuple[Problem, ...]]
) -> None:
    spoil(SITE, "servers: [ntp]", "servers:\n      - ntp\n      - other")
    lines = (lab / SITE).read_text(encoding="utf-8").splitlines()

    (problem,) = problems()

    assert problem.line == lines.index("      - other") + 1


def test_all_mistakes_are_told_at_once(
    spoil: Spoil, problems: Callable[[], tuple[Problem, ...]]
) -> None:
    spoil(SITE, "  level: lab\n", "  levle: lab\n")
    spoil(ACCESS, "group: llm-users", "group: nobody")
    spoil(FLOWS, "external:ntp", "external:time")
    spoil(HOSTS, "tresor_ipv4: 198.51.100.31", "tresor_ipv4: 203.0.113.31")

    files = {problem.file for problem in problems()}

    assert files == {SITE, ACCESS, FLOWS, HOSTS}


def test_missing_file_is_told(lab: Path, problems: Callable[[], tuple[Problem, ...]]) -> None:
    (lab / SLO).unlink()

    (problem,) = problems()

    assert (problem.file, problem.wrong) == (SLO, "cannot be read: No such file or directory")


@pytest.mark.parametrize("file", ["group_vars/all/flow.yml", "group_vars/gpus.yml"])
def test_misspelt_file_is_told(
    file: str, lab: Path, problems: Callable[[], tuple[Problem, ...]]
) -> None:
    (lab / file).write_text("---\n{}\n", encoding="utf-8")

    (problem,) = problems()

    assert problem.file == file
    assert "unknown file" in problem.wrong


def test_host_variables_of_two_groups_are_refused(
    spoil: Spoil, problems: Callable[[], tuple[Problem, ...]]
) -> None:
    spoil(HOSTS, VECTOR, VECTOR.replace("vector1", "gpu1").replace(".40", ".31"))

    assert any("stand in two groups" in problem.wrong for problem in problems())


def test_ports_of_two_models_may_not_meet(
    lab: Path, problems: Callable[[], tuple[Problem, ...]]
) -> None:
    path = lab / MODELS
    first = path.read_text(encoding="utf-8").split("tresor_models:\n")[1]
    second = first.replace("name: smollm2-135m-instruct", "name: other").replace("[small]", "[]")
    path.write_text(f"---\ntresor_models:\n{first}{second}", encoding="utf-8")

    wrongs = [problem.wrong for problem in problems()]

    assert "port clash on gpu1 with the model smollm2-135m-instruct" in wrongs
    assert "instance chat-gpu1 exists already, of the model smollm2-135m-instruct" in wrongs


def test_huge_file_is_not_read(lab: Path, problems: Callable[[], tuple[Problem, ...]]) -> None:
    (lab / SLO).write_text("#" * 2_000_000, encoding="utf-8")

    assert [problem.wrong for problem in problems()] == ["is too large"]
