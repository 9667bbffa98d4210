"""Parts of the latency model against hand calculations."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tresor.sizing.gpu import find
from tresor.sizing.latency.context import causal_pairs, mean_cached
from tresor.sizing.latency.engines import SGLANG, TENSORRT, VLLM, generation, overlaps
from tresor.sizing.latency.maximum import CROWD, Maximum, crowds, fullest, fullest_within
from tresor.sizing.latency.question import bytes_per_sequence
from tresor.sizing.latency.static import run_batch
from tresor.sizing.latency.steady import Rank, Request
from tresor.sizing.latency.step import Load, decode_load, ideal_speed, step
from tresor.sizing.latency.work import Layout, Work, count_work
from tresor.sizing.latency.workloads import Limits, workload_of
from tresor.sizing.model import describe

H100 = find("H100 SXM 80GB")


def work_of(model: str, layout: Layout, quantization: str | None = None) -> Work:
    return count_work(describe(model, quantization), H100, layout, 16)


def test_mean_of_a_window_is_the_sum_over_its_tokens() -> None:
    for start, end, window in [(0, 100, None), (0, 100, 30), (50, 100, 30), (20, 100, 200)]:
        lengths = [min(n, window) if window else n for n in range(start, end)]
        expected = sum(lengths) / (end - start)
        assert mean_cached(start, end, window) == pytest.approx(expected, abs=0.51)


def test_pairs_of_a_causal_prefill_are_half_a_square() -> None:
    assert causal_pairs(0, 1000, None) == pytest.approx(500_000)
    assert causal_pairs(500, 10, None) == pytest.approx(5050)


def test_weights_of_a_dense_model_divide_over_the_ranks() -> None:
    whole = work_of("meta-llama/Llama-3.3-70B-Instruct", Layout())
    quarter = work_of("meta-llama/Llama-3.3-70B-Instruct", Layout(tensor=4))
    # 69.5 billion parameters are multiplied per token; norms are repeated on each rank.
    assert whole.weight_bytes == pytest.approx(2 * 69.5e9, rel=0.005)
    assert quarter.weight_bytes == pytest.approx(whole.weight_bytes / 4, rel=0.001)


def test_batch_touches_experts_as_balls_fall_into_bins() -> None:
    work = work_of("mistralai/Mixtral-8x7B-v0.1", Layout())
    assert work.experts_touched(0) == 0
    assert work.experts_touched(1) == pytest.approx(2 / 8)
    assert work.experts_touched(2) == pytest.approx(1 - 0.75**2)
    assert work.experts_touched(1000) == pytest.approx(1)


def test_experts_spread_over_data_parallel_ranks() -> None:
    alone = work_of("Qwen/Qwen3-235B-A22B", Layout(), "fp8")
    spread = work_of("Qwen/Qwen3-235B-A22B", Layout(data=8, expert=True), "fp8")
    assert sum(one.read for one in spread.experts) == pytest.approx(
        sum(one.read for one in alone.experts) / 8
    )
    assert sum(one.read for one in spread.dense) == sum(one.read for one in alone.dense)


def test_sliding_layers_stop_growing() -> None:
    work = work_of("openai/gpt-oss-20b", Layout())
    short, _ = decode_load(work, 128, 128)
    long, _ = decode_load(work, 4096, 4096)
    # Half of the 24 layers see at most 128 tokens: 8 KV heads of 64, keys and values, 16 bit.
    per_token = 12 * 2 * 8 * 64 * 2
    assert short == pytest.approx(2 * per_token * 128)
    assert long == pytest.approx(per_token * (4096 + 128))


def test_latent_cache_is_not_divided_by_tensor_parallelism() -> None:
    one, eight = (
        decode_load(work_of("deepseek-ai/DeepSeek-R1", Layout(tensor=t)), 1000, 1000)[0]
        for t in (1, 8)
    )
    assert one == eight == pytest.approx(61 * 576 * 2 * 1000)


def test_ideal_decode_of_one_user_is_weights_and_cache_over_bandwidth() -> None:
    work = work_of("meta-llama/Llama-3.1-8B", Layout())
    size, products = decode_load(work, 1000, 1000)
    parts = step(work, ideal_speed(H100), Load(1, size, products))
    assert parts.weights == pytest.approx(work.weight_bytes / 3.35e12)
    assert parts.cache == pytest.approx(1000 * 131072 / 3.35e12)
    assert parts.overhead == parts.communication == 0


def test_ideal_prefill_is_two_operations_per_parameter_and_token() -> None:
    work = work_of("meta-llama/Llama-3.1-8B", Layout())
    parts = step(work, ideal_speed(H100), Load(prompt_tokens=4096, prompts=1))
    # The output layer of 0.53 billion works for one token of the prompt only.
    assert parts.arithmetic == pytest.approx(2 * 6.98e9 * 4096 / 989e12, rel=0.01)


def batch(
    requests: int, pool_tokens: float, *, reserve_all: bool, slots: int = 256
) -> tuple[float, int, int]:
    found = run_batch(
        work_of("meta-llama/Llama-3.1-8B", Layout()),
        ideal_speed(H100),
        requests=requests,
        input_tokens=1000,
        output_tokens=100,
        slots=slots,
        pool_tokens=pool_tokens,
        budget=8192,
        reserve_all=reserve_all,
    )
    return found.total, found.largest, found.preempted


def test_batch_that_fits_runs_at_once() -> None:
    assert batch(16, 1e6, reserve_all=True)[1:] == (16, 0)
    assert batch(16, 1e6, reserve_all=False) == batch(16, 1e6, reserve_all=True)


def test_batch_larger_than_the_pool_runs_in_turns() -> None:
    at_once, _, _ = batch(16, 1e6, reserve_all=True)
    turns, largest, preempted = batch(16, 8 * 1100, reserve_all=True)
    assert (largest, preempted) == (8, 0)
    assert turns > 1.5 * at_once


def test_engine_that_admits_by_prompt_preempts_when_the_pool_is_full() -> None:
    total, largest, preempted = batch(16, 8 * 1100, reserve_all=False)
    assert largest == 8
    assert batch(17, 8 * 1100, reserve_all=False)[0] > total
    assert batch(16, 9 * 1010, reserve_all=False)[2] > 0
    assert preempted == 0


def test_batch_larger_than_the_slots_runs_in_turns() -> None:
    assert batch(16, 1e6, reserve_all=True, slots=4)[1] == 4


def test_pool_smaller_than_one_request_still_ends() -> None:
    total, largest, _ = batch(3, 10, reserve_all=False)
    assert largest == 1
    assert total > 0


@pytest.mark.parametrize(
    ("version", "static", "expected"),
    [
        ("0.10.2", False, "new"),
        ("0.6.3", False, "old"),
        ("2024 (paper)", True, "old"),
        ("MLPerf Inference v6.0", False, "new"),
        (None, True, "old"),
        (None, False, "new"),
        ("0.10.0", True, "new"),
    ],
)
def test_generation_follows_version_year_or_kind(
    version: str | None, static: bool, expected: str
) -> None:
    assert generation(VLLM, version, static=static) == expected


def test_only_vllms_numbers_are_read_as_its_versions() -> None:
    assert generation(TENSORRT, "0.16.0", static=False) == "new"
    assert generation(SGLANG, "0.4.1", static=False) == "new"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("llama2-70b-99", "meta-llama/Llama-2-70b-hf"),
        ("llama2-70b-99.9", "meta-llama/Llama-2-70b-hf"),
        ("meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B"),
        ("DeepSeek-R1", "deepseek-ai/DeepSeek-R1"),
        ("gpt-oss-120b", "openai/gpt-oss-120b"),
    ],
)
def test_benchmarks_are_known_by_either_name(name: str, found: str) -> None:
    workload = workload_of(name)
    assert workload is not None
    assert workload.model == found


def test_other_models_have_no_benchmark() -> None:
    assert workload_of("Qwen/Qwen3-8B") is None


@pytest.mark.parametrize(
    ("gpu", "quantization", "arithmetic"),
    [
        ("H100 SXM 80GB", "nvfp4", "weight_only"),
        ("B200", "nvfp4", "fp4"),
        ("H100 SXM 80GB", "fp8", "fp8"),
        ("A100 SXM 80GB", "fp8", "weight_only"),
    ],
)
def test_products_run_in_the_units_the_card_has(
    gpu: str, quantization: str, arithmetic: str
) -> None:
    shape = describe("meta-llama/Llama-3.1-8B", quantization)
    work = count_work(shape, find(gpu), Layout(), 16)
    assert arithmetic in {one.arithmetic for one in work.dense}


def test_mxfp4_experts_are_unpacked_on_hopper_and_meet_8_bit_on_blackwell() -> None:
    shape = describe("openai/gpt-oss-120b")
    hopper, blackwell = (
        {one.arithmetic for one in count_work(shape, find(gpu), Layout(), 16).experts}
        for gpu in ("H100 SXM 80GB", "B200")
    )
    # The experts' biases are 16-bit vectors.
    assert hopper == {"weight_only", "bf16"}
    assert blackwell == {"fp8", "bf16"}


def test_activations_are_the_inputs_and_outputs_of_each_product() -> None:
    work = work_of("meta-llama/Llama-3.1-8B", Layout())
    # Query, key and value, output, gate and up, down (in and out), and two norms.
    elements = (4096 + 6144) + (4096 + 4096) + (4096 + 28672) + (14336 + 4096)
    assert work.moved == pytest.approx(32 * 2 * (elements + 4 * 4096), rel=0.01)
    half = work_of("meta-llama/Llama-3.1-8B", Layout(tensor=2))
    assert work.moved / 2 < half.moved < work.moved


def test_work_of_the_cpu_hides_behind_a_longer_step() -> None:
    work = work_of("meta-llama/Llama-3.1-8B", Layout())
    slow = replace(ideal_speed(H100), sequence=1e-5)
    size, products = decode_load(work, 1000, 1000)
    load = Load(32, size, products)
    gpu = step(work, ideal_speed(H100), load).total
    assert step(work, slow, load).total == pytest.approx(gpu + 32e-5)
    assert step(work, replace(slow, overlapped=True), load).total == pytest.approx(gpu)
    longer = replace(slow, sequence=1e-3, overlapped=True)
    assert step(work, longer, load).total == pytest.approx(32e-3)


@pytest.mark.parametrize(
    ("version", "era", "expected"),
    [
        ("0.10.2", "new", False),
        ("0.14.0", "new", True),
        (None, "new", True),
        ("0.6.3", "old", False),
    ],
)
def test_vllm_overlaps_since_its_asynchronous_scheduler(
    version: str | None, era: str, expected: bool
) -> None:
    assert overlaps(VLLM, version, era) is expected
    assert overlaps(TENSORRT, "1.1/1.2", "new")


def test_half_empty_tiles_slow_experts_of_few_tokens() -> None:
    work = work_of("openai/gpt-oss-120b", Layout())
    tiled = replace(ideal_speed(H100), tile=128.0)
    costs = []
    for tokens in (1_000, 100_000):
        load = Load(prompt_tokens=tokens)
        ideal = step(work, ideal_speed(H100), load).arithmetic
        costs.append(step(work, tiled, load).arithmetic / ideal)
    assert costs[0] > 1.2
    assert 1.0 < costs[1] < 1.05


def test_engine_that_keeps_windowed_layers_whole_holds_more_per_sequence() -> None:
    work = work_of("openai/gpt-oss-120b", Layout())
    whole = bytes_per_sequence(work, 8192, windows=False)
    assert whole / bytes_per_sequence(work, 8192) == pytest.approx(2, rel=0.05)


def fullest_state(limits: Limits, output: float = 200, input_tokens: float = 1000) -> Maximum:
    work = work_of("meta-llama/Llama-3.1-8B", Layout())
    rank = Rank(work, ideal_speed(H100), Request(input_tokens, output), 8192)
    return fullest_within(rank, 1000, limits)


def test_limits_leave_room_for_the_crowd_and_for_the_prompts_that_come() -> None:
    state = fullest_state(Limits(2000, 12))
    assert 1 < state.running < 1000
    # A tenth of the limit or more stays free for the one answer in a hundred that is unlucky.
    assert state.step * 1000 < 0.9 * 12
    assert fullest_state(Limits(2000, 14)).running > state.running


def test_answers_of_even_length_leave_less_room_than_spread_ones() -> None:
    spread, even = (fullest_state(Limits(2000, 12, freedom=n)).running for n in (2, 16))
    assert spread < even
    assert Limits(2000, 12, freedom=2).tail > Limits(2000, 12, freedom=16).tail > CROWD


def test_limit_on_the_first_token_bounds_what_runs() -> None:
    alone = Rank(
        work_of("meta-llama/Llama-3.1-8B", Layout()), ideal_speed(H100), Request(1000, 200), 8192
    ).alone()
    tight = fullest_state(Limits(1000 * alone + 15, 1000))
    assert tight.running < fullest_state(Limits(2000, 1000)).running


def test_limits_out_of_reach_return_one_sequence_and_say_so() -> None:
    state = fullest_state(Limits(2000, 1))
    assert state.running == 1
    assert not state.kept
    assert fullest_state(Limits(2000, 12)).kept


def exact_crowd(rank: Rank, running: int) -> float:
    """Return the step of the crowd that one request in a hundred meets.

    Requests that share a rank meet in numbers n with p(n) / p(n - 1) = arrivals per time at which
    n requests end: exact for any lengths of the answers.
    """
    states = [fullest(rank, n) for n in range(1, 2 * running + 100)]
    weight, weights = 1.0, [1.0]
    for state in states:
        weight *= states[running - 1].rate / state.rate
        weights.append(weight)
    total, seen, highest = sum(weights), 0.0, 0
    for highest, weight in enumerate(weights):  # noqa: B007 (the number is used after the loop)
        seen += weight
        if seen >= 0.99 * total:
            break
    return states[highest - 1].step


def shared_rank() -> Rank:
    work = work_of("meta-llama/Llama-3.1-8B", Layout())
    return Rank(work, ideal_speed(H100), Request(1000, 200), 100_000)


@pytest.mark.parametrize("running", [8, 40])
def test_crowds_have_the_spread_of_requests_that_share_a_speed(running: int) -> None:
    rank = shared_rank()
    state = fullest(rank, running)
    moment, mean = crowds(rank, state)
    assert moment == pytest.approx(exact_crowd(rank, running), rel=0.05)
    assert state.step < mean < moment


def test_crowds_of_a_rank_near_its_limit_are_understated_not_overstated() -> None:
    # There the step grows nearly as fast as the crowd, and the distribution has a long tail.
    rank = shared_rank()
    moment, _ = crowds(rank, fullest(rank, 200))
    exact = exact_crowd(rank, 200)
    assert 0.7 * exact < moment < exact


def test_waits_count_mixers_and_blocks_not_layers() -> None:
    # Llama: attention and a feed-forward block in each layer; Nemotron-H: one of them.
    assert work_of("meta-llama/Llama-3.1-8B", Layout()).depth == 32
    hybrid = describe("nvidia/NVIDIA-Nemotron-Nano-9B-v2")
    assert hybrid.num_layers == 56
    assert count_work(hybrid, H100, Layout(), 16).depth == 28
    # Experts and a shared expert are one block.
    assert work_of("deepseek-ai/DeepSeek-V3", Layout()).depth == 61


def test_narrow_inputs_take_more_work_outside_of_the_matrix_units() -> None:
    gpu = find("B200")
    efforts = [
        count_work(describe("meta-llama/Llama-3.1-8B", name), gpu, Layout(), 16).efforts
        for name in ("bf16", "fp8", "nvfp4")
    ]
    assert efforts == sorted(efforts)
    assert efforts[0] < efforts[2] < 4 * efforts[0]
    work = count_work(describe("meta-llama/Llama-3.1-8B", "nvfp4"), gpu, Layout(), 16)
    busy = replace(ideal_speed(gpu), vector=10 / gpu.vector_ops)
    load = Load(prompt_tokens=1000)
    more = step(work, busy, load).total - step(work, ideal_speed(gpu), load).total
    assert more == pytest.approx(1000 * work.efforts * 10 / gpu.vector_ops)


def test_time_of_the_cpu_per_step_hides_like_the_one_per_sequence() -> None:
    work = work_of("meta-llama/Llama-3.1-8B", Layout())
    slow = replace(ideal_speed(H100), host=1e-3)
    load = Load(1)
    gpu = step(work, ideal_speed(H100), load).total
    assert step(work, slow, load).total == pytest.approx(gpu + 1e-3)
    assert step(work, replace(slow, overlapped=True), load).total == pytest.approx(gpu)
