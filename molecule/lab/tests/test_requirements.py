"""An unfit machine is refused with the thing, the value seen and what to do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lab.requirements import GIB, KERNEL, PROGRAMS, Facts, Limits, check, file_system
from lab.settings import Settings

SETTINGS = Settings(name="demo", checkout=Path("/srv/tresor"))
FIT = Facts(
    user=0,
    missing_programs=(),
    has_keyring=True,
    kernel_release="6.1.0-1-amd64",
    kernel_config="".join(f"{options[0]}=y\n" for options in KERNEL),
    mounts="cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n",
    free_bytes={"/var": 100 * GIB},
    state_file_system="ext4",
    memory_bytes=24 * GIB,
    lab_owner=None,
    foreign_namespace=False,
)


def messages(facts: Facts, settings: Settings = SETTINGS, limits: Limits | None = None) -> str:
    return "\n".join(str(problem) for problem in check(settings, limits or Limits(), facts))


def test_fit_machine_has_no_problem() -> None:
    assert messages(FIT) == ""


def test_ordinary_user_is_told_to_use_root() -> None:
    assert "user id 1000 is not root" in messages(replace(FIT, user=1000))


def test_missing_program_names_its_package() -> None:
    text = messages(replace(FIT, missing_programs=("systemd-nspawn", "nc")))
    assert "apt-get install systemd-container" in text
    assert "apt-get install netcat-openbsd" in text


def test_every_program_has_a_package() -> None:
    assert all(PROGRAMS.values())


def test_missing_kernel_feature_is_named() -> None:
    config = (FIT.kernel_config or "").replace("CONFIG_OVERLAY_FS=y", "# not set")
    text = messages(replace(FIT, kernel_config=config))
    assert "overlay" in text
    assert "CONFIG_OVERLAY_FS is not set" in text


def test_kernel_feature_as_module_is_enough() -> None:
    config = (FIT.kernel_config or "").replace("CONFIG_BRIDGE=y", "CONFIG_BRIDGE=m")
    assert messages(replace(FIT, kernel_config=config)) == ""


def test_unpublished_kernel_configuration_is_no_error() -> None:
    assert messages(replace(FIT, kernel_config=None)) == ""


def test_old_kernel_is_refused() -> None:
    assert "release 5.10.0-1" in messages(replace(FIT, kernel_release="5.10.0-1"))


def test_machine_without_unified_control_groups_is_refused() -> None:
    assert "no cgroup2" in messages(replace(FIT, mounts="cgroup /c cgroup rw,name=systemd 0 0\n"))


def test_low_disk_shows_both_figures() -> None:
    text = messages(replace(FIT, free_bytes={"/var": 3 * GIB}))
    assert "3.0 GiB, 25 GiB are needed" in text


def test_limits_can_be_lowered_for_a_lab_without_engines() -> None:
    small = replace(FIT, free_bytes={"/var": 6 * GIB}, memory_bytes=6 * GIB)
    assert messages(small, limits=Limits(disk_gib=5, memory_gib=4)) == ""


def test_low_memory_is_refused() -> None:
    assert "8.0 GiB, 16 GiB are needed" in messages(replace(FIT, memory_bytes=8 * GIB))


def test_machine_sold_with_16_gib_is_enough() -> None:
    assert messages(replace(FIT, memory_bytes=int(15.5 * GIB))) == ""


def test_name_of_another_checkouts_lab_is_in_use() -> None:
    text = messages(replace(FIT, lab_owner="/home/else/tresor"))
    assert "'demo' is in use by the checkout /home/else/tresor" in text


def test_own_lab_is_not_in_use() -> None:
    assert messages(replace(FIT, lab_owner="/srv/tresor")) == ""


def test_namespace_of_somebody_else_is_not_taken_over() -> None:
    assert "'demo' is in use" in messages(replace(FIT, foreign_namespace=True))


def test_state_on_an_overlay_is_refused() -> None:
    assert "overlay cannot carry" in messages(replace(FIT, state_file_system="overlay"))


def test_cache_path_that_breaks_mount_options_is_refused() -> None:
    settings = replace(SETTINGS, cache=Path("/a,b"))
    assert "TRESOR_CACHE" in messages(FIT, settings)


def test_all_problems_are_reported_at_once() -> None:
    bad = replace(FIT, user=1, memory_bytes=0, missing_programs=("ip",))
    assert len(check(replace(SETTINGS, name="B"), Limits(), bad)) == 4


def test_file_system_is_that_of_the_nearest_mount() -> None:
    mounts = "a / ext4 rw 0 0\nb /var xfs rw 0 0\nc /variant btrfs rw 0 0\n"
    assert file_system(mounts, Path("/var/lib/x")) == "xfs"
    assert file_system(mounts, Path("/home")) == "ext4"
