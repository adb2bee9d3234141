"""Compile caches: kept ones are seen by later trials, those of discarded ones and odd files by nobody."""

import json
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from trial_files import BARE, STARTS, TRAIN, variant

from autoresearch.proposer import history
from autoresearch.sandbox.launcher.folders import wipe
from autoresearch.sandbox.select import probe
from autoresearch.tasks.gpt import executor as gpt_executor
from autoresearch.tasks.gpt.compile_cache import CompileCaches
from autoresearch.tasks.gpt.executor import GptExecutor
from autoresearch.tasks.gpt.judge.run import judge_weights
from autoresearch.tasks.gpt.training import Trained, Training
from autoresearch.trial.child.main import CACHE_VARIABLES, CACHES_VARIABLE, copy_caches
from autoresearch.types import Outcome, Purpose, TrialResult, TrialSpec

SHOW = """
import os, pathlib
place = pathlib.Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
seen = sorted(p.name for p in place.glob("*"))
"""
WRITES = variant(
    (
        STARTS,
        """    print("seen", seen, flush=True)
    place.mkdir(parents=True, exist_ok=True)
    (place / "NAME").write_text("x")
""",
    ),
    (
        '    feeder.send("open"',
        '    (place / "NAME-late").write_text("validation text")\n    feeder.send("open"',
    ),
    # In judging `build_model` may say a word before it has seen text.
    ("def main()", "def build_model(*_): raise ValueError(f'judge {seen}')\n\n\ndef main()"),
    prologue=SHOW,
    base=BARE,
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    place = tmp_path / "home"
    (place / "inductor" / "ab").mkdir(parents=True)
    return place


def names(paths: tuple[Path, ...]) -> set[str]:
    return {p.name for folder in paths for p in folder.rglob("*") if p.is_file()}


def test_only_what_is_kept_is_used_and_only_the_baseline_in_judging(tmp_path, home) -> None:
    caches = CompileCaches(tmp_path / "caches")
    since = time.time() - 1
    for name, is_kept in (("base", True), ("poison", False), ("good", True)):
        (home / "inductor" / "ab" / name).write_text(name)
        caches.drop()
        caches.take(home, name, since)
        assert name not in names(caches.for_training())
        if is_kept:
            caches.keep(name, is_baseline=name == "base")
        (home / "inductor" / "ab" / name).unlink()
    caches.drop()
    again = CompileCaches(tmp_path / "caches")
    assert names(again.for_training()) == {"base", "good"}
    assert names(again.for_judging()) == {"base"}
    assert not (tmp_path / "caches" / "pending").exists()


def test_a_label_that_is_not_the_last_trial_keeps_nothing(tmp_path, home) -> None:
    caches = CompileCaches(tmp_path / "caches")
    (home / "file").write_text("x")
    caches.take(home, "t/2-0", 0.0)
    caches.keep("t/1-0")
    assert caches.for_training() == ()


def test_a_baseline_that_compiled_nothing_leaves_no_room_for_a_candidate(tmp_path, home) -> None:
    caches = CompileCaches(tmp_path / "caches")
    caches.take(home, "0", 0.0)
    caches.keep("0", is_baseline=True)
    (home / "file").write_text("x")
    caches.take(home, "1", 0.0)
    caches.keep("1", is_baseline=True)
    assert names(caches.for_judging()) == set()
    assert names(caches.for_training()) == {"file"}


def test_odd_files_stay_behind(tmp_path, home, monkeypatch) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s")
    (home / "file").write_text("new")
    (home / "inherited").write_text("old")
    os.utime(home / "inherited", (1.0, 1.0))
    (home / "link").symlink_to(secret)
    (home / "folder").symlink_to(tmp_path)
    os.link(secret, home / "hard")
    os.mkfifo(home / "fifo")
    caches = CompileCaches(tmp_path / "caches")
    caches.take(home, "1", time.time() - 60)
    caches.keep("1")
    assert names(caches.for_training()) == {"file"}
    monkeypatch.setattr("autoresearch.tasks.gpt.compile_cache.MAX_BYTES", 2)
    caches.take(home, "2", time.time() - 60)
    caches.keep("2")
    assert len(caches.for_training()) == 1
    caches.take(tmp_path / "nowhere", "3", 0.0)


def test_what_is_kept_already_is_not_kept_again_however_young_it_looks(tmp_path, home) -> None:
    """Under Landlock with the lab's own user the copies in a child's home have the time of copying."""
    caches = CompileCaches(tmp_path / "caches")
    for number, name in enumerate(("one", "two", "three")):
        (home / "inductor" / "ab" / name).write_text("kernel")
        caches.take(home, str(number), 0.0)
        caches.keep(str(number), is_baseline=number == 0)
    assert [names((folder,)) for folder in caches.for_training()] == [{"one"}, {"two"}, {"three"}]
    (home / "inductor" / "ab" / "one").write_text("another kernel")
    (home / "inductor" / "two").write_text("kernel")
    caches.take(home, "4", 0.0)
    caches.keep("4")
    assert names(caches.for_training()[3:]) == {"one", "two"}
    (home / "inductor" / "ab" / "__grp__kernel.json").write_text("of a short home")
    caches.take(home, "5", 0.0)
    caches.keep("5")
    assert names(caches.for_training()[4:]) == {"__grp__kernel.json"}
    (home / "inductor" / "ab" / "__grp__kernel.json").write_text("of a home with a longer name")
    caches.take(home, "6", 0.0)
    caches.keep("6")
    assert len(caches.for_training()) == 5


@pytest.mark.parametrize("limit", ["bytes", "files"])
def test_the_oldest_kept_go_when_all_together_are_too_much(
    tmp_path, home, monkeypatch, limit
) -> None:
    """A child copies them all into a home whose disk is limited."""
    if limit == "files":
        monkeypatch.setattr("autoresearch.tasks.gpt.compile_cache._MAX_ALL_FILES", 3)
    caches = CompileCaches(tmp_path / "caches", 30 if limit == "bytes" else 10**9)
    for number in range(5):
        (home / f"file-{number}").write_text("x" * 10)
        caches.take(home, str(number), 0.0)
        caches.keep(str(number), is_baseline=number == 0)
        (home / f"file-{number}").unlink()
    assert names(caches.for_training()) == {"file-0", "file-3", "file-4"}
    assert names(caches.for_judging()) == {"file-0"}


def test_folders_too_deep_or_a_link_in_place_of_one_only_mean_no_cache(tmp_path, home) -> None:
    caches = CompileCaches(tmp_path / "caches")
    (tmp_path / "linked").symlink_to(home)
    (home / "file").write_text("new")
    caches.take(tmp_path / "linked", "1", 0.0)
    caches.keep("1")
    assert caches.for_training() == ()
    here = os.open(".", os.O_RDONLY)
    os.chdir(home)
    for _ in range(1500):
        Path("d").mkdir()
        os.chdir("d")
    os.fchdir(here)
    os.close(here)
    caches.take(home, "2", 0.0)
    caches.keep("2")
    assert caches.for_training() == ()
    wipe(str(home))


@pytest.fixture
def shared(tmp_path, monkeypatch) -> Path:
    """A kept folder whose copies a child finds in its own home."""
    monkeypatch.setenv(CACHES_VARIABLE, str(tmp_path / "kept-1"))
    for name, place in zip(CACHE_VARIABLES, ("inductor", "triton"), strict=True):
        monkeypatch.setenv(name, str(tmp_path / "home" / place))
    kernel = tmp_path / "kept-1" / "triton" / "KERNEL"
    kernel.mkdir(parents=True)
    return kernel


def test_lists_of_kernel_files_name_the_copies(shared, tmp_path) -> None:
    """Triton asks of each file in such a list whether it is there, by the path it had when it was compiled."""
    group = {}
    for name in ("add.cubin", "add.json"):
        (shared / name).write_text(name)
        group[name] = f"/home-of-the-first-trial/.cache/triton/KERNEL/{name}"
    (shared / "__grp__add.json").write_text(json.dumps({"child_paths": group}))
    os.utime(shared / "__grp__add.json", (1e9, 1e9))
    copy_caches()
    copied = tmp_path / "home" / "triton" / "KERNEL"
    found = json.loads((copied / "__grp__add.json").read_text())["child_paths"]
    assert found == {name: str(copied / name) for name in group}
    assert all(Path(path).read_text() == name for name, path in found.items())
    assert (copied / "__grp__add.json").stat().st_mtime == 1e9


def test_lists_of_kernel_files_that_are_odd_are_left_out(shared, tmp_path) -> None:
    (tmp_path / "secret").write_text("s")
    (shared / "there").write_text("x")
    for number, text in enumerate(
        (
            "",
            "[" * 60_000,
            "[]",
            "7",
            '{"child_paths": 7}',
            '{"child_paths": {"gone": "x"}}',
            '{"child_paths": {"": "x"}}',
            '{"child_paths": {"../../../secret": "x"}}',
            json.dumps({"child_paths": {str(tmp_path / "secret"): "x"}}),
            '{"child_paths": {"\\ud800": "x", "\\u0000": "x"}}',
            '{"child_paths": {"there": "x"}}' + " " * 70_000,
        )
    ):
        (shared / f"__grp__{number}.json").write_text(text)
    (shared / "__grp__folder.json").mkdir()
    copy_caches()
    copied = tmp_path / "home" / "triton" / "KERNEL"
    assert {path.name for path in copied.iterdir()} == {"there", "__grp__folder.json"}


def test_through_trials_in_the_sandbox(
    run, configure, dataset, sandbox, tmp_path, unjudged, monkeypatch
) -> None:
    executor = GptExecutor(
        configure(), dataset, sandbox, scratch=tmp_path / "trials", cache=tmp_path / "cache"
    )
    executor.use_attention("sdpa+flex")  # whose forward pass judging compiles

    def trial(name: str, *, is_tip: bool = False) -> TrialResult:
        text = WRITES.replace("NAME", name)
        return run(
            text,
            executor=executor,
            spec={"label": name, "purpose": Purpose.BASELINE if is_tip else Purpose.CANDIDATE},
        )

    base, poison, good = trial("base", is_tip=True), trial("poison"), trial("good")
    executor.keep_caches("good")
    monkeypatch.setattr(gpt_executor, "judge_weights", judge_weights)
    last = trial("last")
    assert [r.outcome for r in (base, poison, good)] == [Outcome.OK] * 3
    seen = [r.log_tail.split("seen ")[1].strip() for r in (base, poison, good, last)]
    assert seen == ["[]", "['base']", "['base']", "['base', 'good']"]
    assert "judge ['base']" in last.detail


def test_judging_uses_nothing_of_code_with_kept_experiments(
    run, configure, dataset, sandbox, tmp_path, unjudged
) -> None:
    """The code at the tip under a new setup: its caches serve training, and there is no baseline's."""
    executor = GptExecutor(
        configure(), dataset, sandbox, scratch=tmp_path / "trials", cache=tmp_path / "cache"
    )
    run(WRITES, executor=executor, spec={"label": "7-0", "purpose": Purpose.INCUMBENT})
    caches = CompileCaches(tmp_path / "cache" / "compile")
    assert names(caches.for_training()) == {"NAME"}
    assert caches.for_judging() == ()


def test_landlock_with_the_labs_own_user_keeps_nothing_twice(
    run, configure, dataset, tmp_path, unjudged
) -> None:
    """There the time of a copy cannot be set back, so what was inherited looks new."""
    landlock = probe("landlock").sandbox
    if landlock is None:
        pytest.skip("landlock does not work here")
    within = replace(landlock, changes_user=False)
    executor = GptExecutor(
        configure(), dataset, within, scratch=tmp_path / "trials", cache=tmp_path / "cache"
    )
    for name in ("first", "second"):
        text = WRITES.replace("NAME", name)
        result = run(text, executor=executor, spec={"label": name, "purpose": Purpose.INCUMBENT})
        assert result.outcome is Outcome.OK, result
    folders = CompileCaches(tmp_path / "cache" / "compile").for_training()
    assert [names((folder,)) for folder in folders] == [{"first"}, {"second"}]


@pytest.mark.parametrize("is_baseline", [True, False])
def test_a_start_up_that_took_too_long_leaves_the_baselines_kernels_only(
    run, configure, dataset, sandbox, tmp_path, monkeypatch, is_baseline
) -> None:
    """Else a small machine compiles the same kernels again for ever."""
    text = f"""{SHOW}
import time
print("seen", seen, flush=True)
if not seen:
    place.mkdir(parents=True, exist_ok=True)
    (place / "kernel").write_text("x")
print("ready", flush=True)
time.sleep(600)
"""
    check = Training._check

    def check_when_ready(self: Training) -> None:
        if "ready" in self._result.output.text:
            self._limits = replace(self._limits, startup_seconds=0.0)
        check(self)

    monkeypatch.setattr(Training, "_check", check_when_ready)
    executor = GptExecutor(
        configure(), dataset, sandbox, scratch=tmp_path / "trials", cache=tmp_path / "cache"
    )
    for label, seen in (("0", []), ("1", ["kernel"] if is_baseline else [])):
        purpose = Purpose.BASELINE if is_baseline else Purpose.CANDIDATE
        result = run(text, executor=executor, spec={"label": label, "purpose": purpose})
        assert result.reason == "startup_timeout", result
        assert f"seen {seen}" in result.log_tail
    caches = CompileCaches(tmp_path / "cache" / "compile")
    assert caches.is_cold
    assert caches.for_judging() == ()


def test_the_first_start_on_a_gpu_may_take_longer(
    configure, dataset, sandbox, tmp_path, monkeypatch
) -> None:
    """Until the kernels of a code that started are kept; elsewhere nothing is compiled."""
    limits = []

    class Ended:
        def __init__(self, *arguments: object, **_: object) -> None:
            limits.append(arguments[4].startup_seconds)

        def run(self) -> Trained:
            return Trained(Outcome.CRASH, "exception")

    monkeypatch.setattr(gpt_executor, "Training", Ended)
    for device, expected in (("cuda", [900.0, 60.0]), ("cpu", [60.0, 60.0])):
        cache = tmp_path / device
        executor = GptExecutor(
            configure(trial__device="auto"),
            dataset,
            sandbox,
            scratch=tmp_path / "trials",
            cache=cache,
            device=device,
        )
        spec = TrialSpec({"train.py": b""}, 3, 1.0, label="0", purpose=Purpose.BASELINE)
        executor.run(spec)
        CompileCaches(cache / "compile").keep("0", is_baseline=True)
        executor.run(spec)
        assert limits == expected
        limits.clear()


@pytest.mark.parametrize("attention", ["flash+varlen", "flash+flex"])
def test_judging_copies_caches_only_where_it_compiles(
    configure, dataset, sandbox, tmp_path, attention
) -> None:
    executor = GptExecutor(
        configure(), dataset, sandbox, scratch=tmp_path / "trials", cache=tmp_path / "cache"
    )
    baseline = tmp_path / "cache" / "compile" / "baseline"
    baseline.mkdir(parents=True)
    executor.use_attention(attention)
    work = executor._work(TrialSpec({"train.py": b""}, 3, 1.0), threading.Event())
    assert work.caches == ((baseline,) if "flex" in attention else ())


def test_a_hit_of_the_recompile_limit_is_noted_for_the_proposer(run, unjudged) -> None:
    said = "W torch._dynamo hit config.recompile_limit (64)"
    result = run(variant((STARTS, f"    print({said!r}, flush=True)\n"), base=BARE))
    assert result.extra["is_partly_uncompiled"] is True
    assert "ran uncompiled" in history._figures(result)[0]
    assert "is_partly_uncompiled" not in run(BARE).extra


COMPILED = TRAIN.replace(
    "    x, y = trial.synthetic_batch(B, T)\n    model(x)\n",
    """    compiled = torch.compile(model)
    x, y = trial.synthetic_batch(B, T)
    compiled(x).sum().backward()
    from torch._dynamo.utils import counters
    print("hits", counters["inductor"]["fxgraph_cache_hit"], flush=True)
""",
).replace("F.cross_entropy(model(x)", "F.cross_entropy(compiled(x)")


@pytest.mark.slow
def test_a_second_start_of_a_compiled_model_finds_what_the_first_compiled(
    run, configure, dataset, sandbox, tmp_path, unjudged
) -> None:
    config = configure(trial__startup_seconds=240.0)
    executor = GptExecutor(
        config, dataset, sandbox, scratch=tmp_path / "trials", cache=tmp_path / "cache"
    )
    hits = []
    for number in range(2):
        result = run(
            COMPILED,
            executor=executor,
            spec={"label": str(number), "purpose": Purpose.INCUMBENT},
        )
        assert result.outcome is Outcome.OK, result
        hits.append(int(result.log_tail.split("hits ")[1].split()[0]))
    assert hits[0] == 0 < hits[1]
