"""Whatever is wanted and whatever there is: no GPU is promised twice, and nothing gets lost."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tresor.placement.pack import place
from tresor.placement.predict import predictor
from tresor.placement.values import SHARED_LIMIT, Hardware, Wanted

from .conftest import estimate, server, wanted

predict = predictor(estimate, "0.32.0")

servers = st.builds(
    lambda gpus, domain: server(gpus=gpus, nvlink_domain=min(domain, gpus)),
    gpus=st.integers(1, 8),
    domain=st.sampled_from([1, 2, 4, 8]),
)
sites = st.dictionaries(st.sampled_from(["a", "b", "c"]), servers, min_size=1)


@st.composite
def cases(draw: st.DrawFn) -> tuple[dict[str, Hardware], list[Wanted]]:
    hosts = draw(sites)
    entries = []
    for number in range(draw(st.integers(1, 6))):
        share = draw(st.sampled_from([None, 0.3, 0.5]))
        some = draw(st.lists(st.sampled_from(sorted(hosts)), min_size=1, unique=True))
        entries.append(
            wanted(
                f"m{number}",
                architecture=draw(st.sampled_from(["small", "middle", "large"])),
                hosts=tuple(sorted(some)),
                tensor=draw(st.sampled_from([None, 1, 2, 4])),
                pipeline=draw(st.sampled_from([1, 2])),
                args={} if share is None else {"gpu_memory_utilization": share},
                path=(number, 0),
            )
        )
    return hosts, entries


@settings(deadline=None)
@given(case=cases(), spread=st.booleans())
def test_no_gpu_is_promised_twice_and_nothing_gets_lost(
    case: tuple[dict[str, Hardware], list[Wanted]], spread: bool
) -> None:
    hosts, entries = case
    placement = place(hosts, entries, predict, spread=spread)
    used: dict[tuple[str, int], list[float]] = {}
    for item in placement.placed:
        assert len(set(item.gpus)) == item.tensor * item.wanted.pipeline
        for gpu in item.gpus:
            assert gpu < hosts[item.host].gpus
            used.setdefault((item.host, gpu), []).append(item.wanted.share)
        domains = hosts[item.host].domains()
        groups = [
            item.gpus[start : start + item.tensor]
            for start in range(0, len(item.gpus), item.tensor)
        ]
        joined = all(any(set(group) <= set(domain) for domain in domains) for group in groups)
        assert item.over_pcie == (not joined)

    for shares in used.values():
        assert len(shares) == 1 or sum(shares) <= SHARED_LIMIT
    for entry in entries:
        found = {item.host for item in placement.placed if item.wanted == entry}
        told = {misfit.host for misfit in placement.misfits if misfit.path == entry.path}
        assert found | told == set(entry.hosts)
